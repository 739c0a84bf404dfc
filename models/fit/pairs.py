"""Thresholds for a tenant, from pairs that people have labelled."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.background import Background
from models.calibration import Calibration
from models.encoder import Encoder
from models.evaluation.decision import pair_scores
from models.evaluation.queries import Methods, Task, workshop
from models.fit.calibration import Fitted, Wanted, fitted
from models.manifest import CALIBRATION, refresh_manifest
from models.photos import read_photos
from schemas.events import Vector
from stream.errors import SettingError

PAIRS_MIN = 50
_YES, _NO = {"1", "yes", "true", "copy"}, {"0", "no", "false", "other"}
_PICTURES, _SCORES = ("first", "second", "copy"), ("score", "copy")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Scores of pairs, whether the perceptual hashes agree, and what people said."""

    scores: Vector
    agreed: NDArray[np.bool_]
    copy: NDArray[np.bool_]


def read_pairs(file: Path, encoder: Encoder, background: Background) -> Labelled:
    """Pairs of a CSV file with the columns first, second, copy (pictures, relative to the file) or score, copy.

    Raises:
        SettingError: other columns, a label that is none, a picture that cannot be read, or too few pairs.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"{file} cannot be read: {error}") from error
    copy = np.array([_label(file, n, row.get("copy") or "") for n, row in enumerate(rows, 2)], dtype=bool)
    if min(copy.sum(), (~copy).sum()) < PAIRS_MIN:
        raise SettingError(
            f"{file}: {copy.sum()} copies and {(~copy).sum()} others; at least {PAIRS_MIN} of each are needed"
        )
    if columns == _SCORES:
        return Labelled(_scores(file, rows), np.zeros(len(rows), dtype=bool), copy)
    if columns == _PICTURES:
        return _of_pictures(file, rows, copy, encoder, background)
    raise SettingError(f"{file}: columns {', '.join(columns)}; {', '.join(_PICTURES)} or {', '.join(_SCORES)} are read")


def fit_pairs(pairs: Labelled, wanted: Wanted) -> Fitted:
    """Thresholds and tables of labelled pairs.

    Raises:
        SettingError: no score has the precision that is wanted.
    """
    return fitted(pairs.scores, pairs.copy, pairs.agreed, int(pairs.copy.sum()), wanted)


def write_weights(found: Fitted, pairs: Labelled, wanted: Wanted, weights: Path, out: Path, command: str) -> None:
    """A copy of a weights folder with these thresholds and tables; the model id stays, so the index does too.

    Raises:
        SettingError: `out` is there already.
    """
    if out.exists():
        raise SettingError(f"--out: {out} exists; name a new folder")
    old = Calibration.load(weights)
    shutil.copytree(weights, out)
    new = old.model_copy(
        update={
            "duplicate_threshold": found.duplicate,
            "review_threshold": found.review,
            "alone": found.alone,
            "agreed": found.agreed,
            "fitted_on": {"copies": int(pairs.copy.sum()), "others": int((~pairs.copy).sum())},
            "measured": found.measured,
            "recall_per_edit": {},
            "rule": f"labelled pairs; {wanted.rule}",
            "command": command,
        }
    )
    (out / CALIBRATION).write_text(new.model_dump_json(indent=1) + "\n")
    refresh_manifest(out)


def _label(file: Path, line: int, text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise SettingError(f"{file}, line {line}: copy is {text!r}; write 1 or 0, yes or no")
    return word in _YES


def _scores(file: Path, rows: list[dict[str, str]]) -> Vector:
    scores = []
    for line, row in enumerate(rows, 2):
        try:
            scores.append(float(row["score"]))
        except ValueError as error:
            raise SettingError(f"{file}, line {line}: score is {row['score']!r}, no number") from error
    return np.array(scores, dtype=np.float32)


def _of_pictures(
    file: Path, rows: list[dict[str, str]], copy: NDArray[np.bool_], encoder: Encoder, background: Background
) -> Labelled:
    names = sorted({row[column] for row in rows for column in _PICTURES[:2]})
    places = {name: n for n, name in enumerate(names)}
    with workshop(Methods(encoder)) as bench:
        views = bench.made(Task(next(read_photos([file.parent / name]))) for name in names).views
    pairs = [(places[row["first"]], places[row["second"]]) for row in rows]
    return Labelled(*pair_scores(views, background, pairs), copy)
