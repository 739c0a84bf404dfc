"""Fit thresholds and confidence tables on edits of photos, against other photos.

Every (photo, edit) is one query, met twice: once with its original among the rows, once without. The
rows are the photos and the distractors, which are never copies. As in the decision, the best score
over all rows counts: it is right when the row is the original, wrong otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.background import Background
from models.calibration import Calibration, Table
from models.edits import EDITS
from models.encoder import load_encoder
from models.evaluation import hard_negatives
from models.evaluation.answers import Answers, ask
from models.evaluation.decision import Decision, pair_scores
from models.evaluation.metrics import f1
from models.evaluation.queries import Methods, Task, parted, workshop
from models.manifest import CALIBRATION, Manifest, refresh_manifest
from models.photos import TUNE, Photo, read_photos, split
from schemas.events import Vector
from stream.errors import SettingError

DUPLICATE_PRECISION = 0.99
REVIEW_SHARE_MAX = 0.01
# Half of what is promised: it is fitted on a few pairs near the threshold, and is to hold on others.
HARD_SHARE_MAX = 0.0005
LIKELIER = 0.5
POINTS = 50
# A line has two.
ENDS = 2
PHOTOS_MIN = 50

Flags = NDArray[np.bool_]


class Wanted(NamedTuple):
    """What a user states: of what is called duplicate this share is right, at most this share goes to review.

    Of the project's hard negatives, where their photos are among the rows, at most `hard_share_max` are duplicates.
    """

    precision: float = DUPLICATE_PRECISION
    review_share_max: float = REVIEW_SHARE_MAX
    hard_share_max: float = HARD_SHARE_MAX

    @property
    def rule(self) -> str:
        """In words."""
        return (
            f"duplicate: lowest score with precision at least {self.precision} at which a copy is the likelier "
            f"explanation; review: at most {self.review_share_max} of all answers"
        )


def fit_calibration(
    folder: Path, paths: Sequence[Path], distractors: Sequence[Path], wanted: Wanted, command: str
) -> Manifest:
    """Write calibration.json and the manifest. Of BSDS500 only the tuning part is taken.

    Raises:
        SettingError: too few photos.
    """
    background = Background.load(folder)
    photos = tuning_photos(paths)
    own = {photo.sha256 for photo in photos}
    others = {photo.sha256: photo for photo in read_photos(distractors) if photo.sha256 not in own}
    distant, completing = parted(others.values(), background)
    rows = [*photos, *distant]
    methods = Methods(load_encoder("openvino", folder))
    with workshop(methods, completing) as bench:
        views = bench.made(Task(photo) for photo in rows).views
        queries = [bench.made(Task(photo, edit) for photo in photos).views for edit in EDITS]
    decision = Decision(background, views)
    answers = ask(queries, decision.scores)
    agreed = answers.agreed(queries, decision.agreed)
    hard, _ = pair_scores(views, background, hard_negatives.listed(rows), either=True)
    kept = calibration_of(answers, agreed, hard, wanted, methods.encoder.model_id, len(rows) - len(photos), command)
    (folder / CALIBRATION).write_text(kept.model_dump_json(indent=1) + "\n")
    return refresh_manifest(folder)


def tuning_photos(paths: Sequence[Path]) -> list[Photo]:
    """The project's tuning part when the photos hold it, else all, in the order of their hashes.

    Raises:
        SettingError: too few.
    """
    found = {photo.sha256: photo for photo in read_photos(paths)}
    part = split(TUNE) & found.keys() or found.keys()
    if len(part) < PHOTOS_MIN:
        raise SettingError(f"{len(part)} photos to fit on; at least {PHOTOS_MIN} are needed")
    return [found[sha256] for sha256 in sorted(part)]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What answers say: thresholds, tables, and what the thresholds come to on the same answers."""

    duplicate: float
    review: float
    alone: Table
    agreed: Table
    measured: dict[str, float]


def fitted(
    scores: Vector, right: Flags, agreed: Flags, positives: int, wanted: Wanted, hard: Vector | None = None
) -> Fitted:
    """Fit to answers.

    Args:
        agreed: where the perceptual hashes are near.
        positives: answers that could be right.
        hard: scores of pairs that look alike and are no copies, where there are any.

    Raises:
        SettingError: too few answers, or no score with the precision that is wanted.
    """
    alone = table(scores[~agreed], right[~agreed])
    together = table(scores[agreed], right[agreed]) if len(np.unique(scores[agreed].round(6))) >= ENDS else alone
    precise = threshold(scores, right, wanted.precision)
    duplicate = max(precise, likelier_from(alone))
    if hard is not None and len(hard):
        duplicate = max(duplicate, above_most(hard, wanted.hard_share_max))
    review = review_from(scores, duplicate, wanted.review_share_max)
    precision, recall, _ = f1(scores, right, positives, duplicate)
    measured = {
        "recall_at_precision": round(f1(scores, right, positives, precise)[1], 4),
        "duplicate_precision": round(precision, 4),
        "duplicate_recall": round(recall, 4),
        "review_share": round(float(((scores >= review) & (scores < duplicate)).mean()), 4),
    }
    if hard is not None and len(hard):
        measured |= {"hard_negatives": len(hard), "hard_duplicates": int((hard.round(4) >= duplicate).sum())}
    return Fitted(duplicate, review, alone, together, measured)


def calibration_of(
    answers: Answers, agreed: Flags, hard: Vector, wanted: Wanted, model_id: str, distractors: int, command: str
) -> Calibration:
    """Tables and thresholds of these answers; `agreed` of each, in the order of `answers.flat`."""
    found = fitted(*answers.flat(), agreed, answers.positives, wanted, hard)
    also = f"; at most {wanted.hard_share_max} of {len(hard):,} hard negatives are duplicates" if len(hard) else ""
    return Calibration(
        model_id=model_id,
        duplicate_threshold=found.duplicate,
        review_threshold=found.review,
        alone=found.alone,
        agreed=found.agreed,
        fitted_on={
            "photos": answers.photos,
            "edits": len(EDITS),
            "distractors": distractors,
            "queries_with_original": answers.positives,
            "queries_without_original": answers.positives,
        },
        measured=found.measured,
        recall_per_edit={
            name: round(share, 3) for name, share in zip(EDITS, answers.recall_per_edit(found.duplicate), strict=True)
        },
        rule=f"half of the uploads have their original among the rows; {wanted.rule}{also}",
        command=command,
    )


def threshold(scores: Vector, right: Flags, precision: float) -> float:
    """The lowest score at which the outcomes at or above it are right this often, rounded up to 1e-4.

    Raises:
        SettingError: there is none.
    """
    order = np.argsort(-scores, kind="stable")
    precisions = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precisions >= precision)
    if not len(enough):
        raise SettingError(f"no score reaches precision {precision}; state a lower one")
    return _rounded_up(float(scores[order[enough[-1]]]))


def review_from(scores: Vector, duplicate: float, share_max: float) -> float:
    """The lowest score, rounded up to 1e-4, so that at most this share of all answers lies from it to `duplicate`."""
    below = np.sort(scores[scores < duplicate])[::-1]
    count = int(share_max * len(scores))
    if count >= len(below):
        return min(duplicate, _rounded_up(float(below[-1]))) if len(below) else duplicate
    # Above the first that would be one too many, with all that tie with it.
    above = below[:count][below[:count] > below[count]]
    return min(duplicate, _rounded_up(float(above[-1]))) if len(above) else duplicate


def above_most(scores: Vector, share: float) -> float:
    """The lowest score, in steps of 1e-4 as verdicts have them, that at most this share of these reach."""
    ranked = np.sort(scores)[::-1]
    first_too_many = float(ranked[min(int(share * len(ranked)), len(ranked) - 1)])
    return (round(first_too_many * 1e4) + 1) / 1e4


def likelier_from(of: Table) -> float:
    """The table's lowest score at which a copy is the likelier explanation, rounded up to 1e-4.

    Precision counts everything above a threshold, and clear copies may carry doubtful ones below one half.

    Raises:
        SettingError: there is none.
    """
    likelier = [s for s, probability in zip(of.scores, of.probabilities, strict=True) if probability >= LIKELIER]
    if not likelier:
        raise SettingError("at no score is a copy the likelier explanation: are the labels right?")
    return _rounded_up(likelier[0])


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


def table(scores: Vector, right: Flags) -> Table:
    """Both ends of the isotonic fit's blocks, thinned to 50 points.

    This many outcomes cannot prove a probability of 0 or 1, so neither is claimed.

    Raises:
        SettingError: fewer than two outcomes of different scores.
    """
    if len(np.unique(scores.round(6))) < ENDS:
        raise SettingError(f"{len(scores)} answers of this kind are too few to fit a table; give more photos or pairs")
    never = 1 / len(scores)
    ends = {
        round(score, 6): round(min(max(block.hits / block.outcomes, never), 1 - never), 6)
        for block in isotonic(scores, right)
        for score in (block.low, block.high)
    }
    points = list(ends.items())
    kept = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return Table(scores=[points[place][0] for place in kept], probabilities=[points[place][1] for place in kept])
