"""Fit thresholds and the confidence table on edits of photos, against other photos.

Every (photo, edit) is one query, met twice: once with its original among the rows, once without. The
rows are the photos and the distractors, which are never copies. As in the decision, the best score
over all rows counts: it is right when the row is the original, wrong otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.background import Background
from models.calibration import Calibration
from models.encoder import Encoder, load_encoder
from models.fit.background import photo_id
from models.fit.photos import Photo, encode_all, read_photos
from models.manifest import BACKGROUND, CALIBRATION, Manifest, read_manifest, refresh_manifest, verified
from models.training.edits import EDITS
from schemas.events import Vector

TUNED_ON = 200
DUPLICATE_PRECISION = 0.99
REVIEW_PRECISION = 0.90
LIKELIER = 0.5
POINTS = 50
SPLIT = Path(__file__).parent.parent / "splits" / "bsds500-tune.txt"

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Best score of every query, float32 [edits, photos], with and without its original among the rows."""

    best_with: Vector
    right: Flags
    best_without: Vector

    def flat(self) -> tuple[Vector, Flags]:
        """All outcomes in one row: scores, and whether the row found was the original."""
        scores = np.concatenate([self.best_with.ravel(), self.best_without.ravel()])
        return scores, np.concatenate([self.right.ravel(), np.zeros(self.best_without.size, dtype=bool)])


def fit_calibration(folder: Path, tar: Path, shards: list[Path], command: str) -> Manifest:
    """Write calibration.json, the list of photos it was fitted on, and the manifest."""
    encoder, background = load_encoder("openvino", folder), Background.load(folder)
    photos = tuning_photos(tar)
    SPLIT.parent.mkdir(exist_ok=True)
    SPLIT.write_text("".join(f"{photo.sha256}\n" for photo in photos))
    distractors = _distractors(encoder, folder, shards)
    outcomes = measure(encoder, background, photos, distractors)
    scores, right = outcomes.flat()
    table_scores, probabilities = table(scores, right)
    duplicate = max(threshold(scores, right, DUPLICATE_PRECISION), likelier_from(table_scores, probabilities))
    review = threshold(scores, right, REVIEW_PRECISION)
    kept = Calibration(
        provisional=True,
        model_id=encoder.model_id,
        duplicate_threshold=duplicate,
        review_threshold=review,
        scores=table_scores,
        probabilities=probabilities,
        fitted_on={
            "photos": len(photos),
            "edits": len(EDITS),
            "distractors": len(distractors),
            "queries_with_original": outcomes.best_with.size,
            "queries_without_original": outcomes.best_without.size,
        },
        measured=_measured(outcomes, duplicate, review),
        recall_per_edit={
            name: round(float((outcomes.right[row] & (outcomes.best_with[row] >= duplicate)).mean()), 3)
            for row, name in enumerate(EDITS)
        },
        rule=(
            f"the {TUNED_ON} photos of lowest SHA-256; half of the uploads have their original among the rows; "
            f"duplicate: lowest score with precision at least {DUPLICATE_PRECISION} and probability at least "
            f"{LIKELIER}; review: lowest score with precision at least {REVIEW_PRECISION}"
        ),
        command=command,
    )
    (folder / CALIBRATION).write_text(kept.model_dump_json(indent=1) + "\n")
    return refresh_manifest(folder)


def tuning_photos(tar: Path) -> list[Photo]:
    """The photos of lowest SHA-256; the others stay unseen, for tests."""
    return sorted(read_photos([tar]), key=lambda photo: photo.sha256)[:TUNED_ON]


def _distractors(encoder: Encoder, folder: Path, shards: list[Path]) -> Vector:
    """Photos of the shards that are not background: a background photo is its own nearest, its bias too high."""
    content = verified(folder, read_manifest(folder), (BACKGROUND,))[BACKGROUND]
    with np.load(BytesIO(content), allow_pickle=False) as file:
        background = set(file["photo_ids"].tolist())
    photos = (photo for photo in read_photos(shards) if photo_id(photo.sha256) not in background)
    return encode_all(encoder, (photo.open() for photo in photos))


def measure(encoder: Encoder, background: Background, photos: Sequence[Photo], distractors: Vector) -> Outcomes:
    """Ask for every edit of every photo."""
    rows = np.concatenate([encode_all(encoder, (photo.open() for photo in photos)), distractors])
    row_bias = background.bias(rows)
    own = np.arange(len(photos))
    best_with, right, best_without = [], [], []
    for name, edit in EDITS.items():
        edited = (edit(photo.open(), Random(f"{name}:{photo.sha256}")) for photo in photos)  # noqa: S311 - a seed
        queries = encode_all(encoder, edited)
        scores = queries @ rows.T - (background.bias(queries)[:, None] + row_bias) / 2
        best_with.append(scores.max(axis=1))
        right.append(scores.argmax(axis=1) == own)
        scores[own, own] = -np.inf
        best_without.append(scores.max(axis=1))
    return Outcomes(np.stack(best_with), np.stack(right), np.stack(best_without))


def threshold(scores: Vector, right: Flags, precision: float) -> float:
    """The lowest score at which the outcomes at or above it are right this often, rounded up to 1e-4."""
    order = np.argsort(-scores, kind="stable")
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precisions >= precision)
    if not len(enough):
        raise ValueError(f"no score reaches precision {precision}")
    return _rounded_up(float(scores[order[enough[-1]]]))


def likelier_from(table_scores: Sequence[float], probabilities: Sequence[float]) -> float:
    """The table's lowest score at which a copy is the likelier explanation, rounded up to 1e-4.

    Precision counts everything above a threshold, and clear copies may carry doubtful ones below one half.
    """
    likelier = zip(table_scores, probabilities, strict=True)
    return _rounded_up(min(score for score, probability in likelier if probability >= LIKELIER))


def _rounded_up(score: float) -> float:
    return math.ceil(score * 1e4) / 1e4


class Block(NamedTuple):
    """Outcomes of neighbouring scores, pooled: from and to which score, how many, how many of them right."""

    low: float
    high: float
    outcomes: int
    hits: int


def isotonic(scores: Vector, right: Flags) -> list[Block]:
    """Pool adjacent violators: blocks of rising scores whose share of right outcomes rises.

    Source: Ayer et al., "An Empirical Distribution Function for Sampling with Incomplete Information" (1955).
    """
    blocks: list[Block] = []
    for place in np.argsort(scores, kind="stable"):
        score = float(scores[place])
        block = Block(score, score, 1, int(right[place]))
        while blocks and blocks[-1].hits * block.outcomes >= block.hits * blocks[-1].outcomes:
            before = blocks.pop()
            block = Block(before.low, block.high, before.outcomes + block.outcomes, before.hits + block.hits)
        blocks.append(block)
    return blocks


def table(scores: Vector, right: Flags) -> tuple[list[float], list[float]]:
    """Both ends of the isotonic fit's blocks, thinned to 50 points.

    This many outcomes cannot prove a probability of 0 or 1, so neither is claimed.
    """
    never = 1 / len(scores)
    ends = {
        round(score, 6): round(min(max(block.hits / block.outcomes, never), 1 - never), 6)
        for block in isotonic(scores, right)
        for score in (block.low, block.high)
    }
    points = list(ends.items())
    kept = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return [points[place][0] for place in kept], [points[place][1] for place in kept]


def _measured(outcomes: Outcomes, duplicate: float, review: float) -> dict[str, float]:
    """Precision and recall at both thresholds, over all edits."""
    scores, right = outcomes.flat()
    figures: dict[str, float] = {}
    for name, limit in (("duplicate", duplicate), ("review", review)):
        found = scores >= limit
        figures[f"{name}_precision"] = round(float(right[found].mean()), 4)
        figures[f"{name}_recall"] = round(float((right & found).sum() / outcomes.right.size), 4)
    return figures
