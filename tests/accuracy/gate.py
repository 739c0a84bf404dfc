"""The accuracy gate: every edit of a few photographs, looked for among rows that an earlier run wrote.

The rows are in the project as numbers, as an index holds rows that an earlier process wrote: a worker that reads
colours in another order finds its own rows, but not these. Beside them lie the figures that the same run had, and the
deployed thresholds. New weights or thresholds need a new file, on a machine that has BSDS500, too:

    python -m tests.accuracy.gate
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage

from models.background import Background
from models.calibration import Calibration
from models.edits import EDITS, FAMILIES, UNTRAINED
from models.encoder import load_encoder
from models.evaluation.answers import Answers, ask
from models.evaluation.baselines import imagenet_features
from models.evaluation.decision import Decision, Views
from models.evaluation.metrics import f1, micro_ap, recall_at
from models.evaluation.queries import OURS, Made, Methods, Task, workshop
from models.evaluation.run import cosine
from models.photos import TUNE, Photo, read_photos, split
from schemas.events import Vector

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
BSDS500 = SHARED / "data" / "eval" / "bsds500.tar"
IMAGENET_WEIGHTS = SHARED / "weights" / "mobilenet_v3_small_imagenet.pth"
ROWS = Path(__file__).with_name("rows.npz")
ASKED = 30
WHEEL = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
    "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip


# How far below the written figure is too far. Of an edit's 18 photographs 3 may be missed that were found.
SLACK = {"micro_ap": 0.01, "mean_recall": 0.02, "untrained_recall": 0.03, "precision": 0.02, "recall": 0.03}
EDIT_SLACK = 0.17


class Ground(NamedTuple):
    """Photographs; the first `asked` are edited, all are rows."""

    photos: list[Photo]
    asked: int


Figures = dict[str, float]
"""By name: recalls at precision .99, precision and recall at the deployed threshold, and every edit's recall."""


def short_of(found: Figures, written: Figures) -> list[str]:
    """What is too far below what was written, in words."""
    return [
        f"{name} {found[name]:.3f} < {value:.3f} - {slack}"
        for name, value in written.items()
        if found[name] < value - (slack := SLACK.get(name, EDIT_SLACK))
    ]


def wheel() -> Ground:
    """Photographs of scikit-image's wheel, textures among them that are taken for each other."""
    folder = Path(skimage.__file__).parent / "data"
    photos = [
        Photo(hashlib.sha256(content).hexdigest(), name, content)
        for name, content in ((name, (folder / name).read_bytes()) for name in WHEEL)
    ]
    return Ground(photos, len(photos))


def bsds500() -> Ground:
    """The tuning part of BSDS500, which is not in the project."""
    part = split(TUNE)
    photos = sorted((p for p in read_photos([BSDS500]) if p.sha256 in part), key=lambda photo: photo.sha256)
    return Ground(photos, ASKED)


GROUNDS: dict[str, Callable[[], Ground]] = {"wheel": wheel, **({"bsds500": bsds500} if BSDS500.exists() else {})}


def measure(ground: Ground, methods: Methods, method: str, rows: Made) -> Figures:
    """Ask for every edit of the photos among these rows."""
    asked = ground.photos[: ground.asked]
    with workshop(methods) as bench:
        made = [bench.made(Task(photo, edit) for photo in asked) for edit in EDITS]
    if method == OURS:
        answers = ask([one.views for one in made], Decision(Background.load(), rows.views).scores)
    else:
        answers = ask([one.rows[method] for one in made], cosine(rows.rows[method]))
    return _figures(answers, Calibration.load().duplicate_threshold)


def _figures(answers: Answers, threshold: float) -> Figures:
    scores, right = answers.flat()
    _, at_99 = recall_at(scores, right, answers.positives, 0.99)
    per_edit = dict(zip(EDITS, answers.recall_per_edit(at_99), strict=True))
    precision, recall, _ = f1(scores, right, answers.positives, threshold)
    untrained = [per_edit[edit] for name in UNTRAINED for edit in FAMILIES[name].edits]
    return {
        "micro_ap": micro_ap(scores, right, answers.positives),
        "mean_recall": float(np.mean(list(per_edit.values()))),
        "untrained_recall": float(np.mean(untrained)),
        "precision": precision,
        "recall": recall,
        **per_edit,
    }


def rows_of(ground: Ground, methods: Methods) -> Made:
    """Encoded now."""
    with workshop(methods) as bench:
        return bench.made(Task(photo) for photo in ground.photos)


class Written(NamedTuple):
    """What an earlier run wrote: rows of a ground, its figures, both thresholds."""

    rows: Made
    figures: Figures
    thresholds: tuple[float, float]


def written(name: str, ground: Ground) -> Written:
    """Read it.

    Raises:
        AssertionError: it is of other weights, or of other photos.
    """
    with np.load(ROWS, allow_pickle=False) as file:
        expected, found = load_encoder().model_id, str(file["model_id"])
        assert found == expected, f"rows of {found}, weights of {expected}: run python -m tests.accuracy.gate"
        places = {sha256: place for place, sha256 in enumerate(file["sha256"].tolist())}
        unknown = [photo.name for photo in ground.photos if photo.sha256 not in places]
        assert not unknown, f"other photographs than were written (another scikit-image?): {unknown[:3]}"
        chosen = [places[photo.sha256] for photo in ground.photos]
        rows: Vector = file["vectors"].astype(np.float32)[chosen]
        hashes: Vector = file["hashes"].astype(np.float32)[chosen] / np.float32(np.sqrt(file["hashes"].shape[1]))
        figures = dict(zip(file["names"].tolist(), file[f"figures_{name}"].tolist(), strict=True))
        review, duplicate = file["thresholds"].tolist()
    unit: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    # An index has no panels: they are a query's.
    views = Views(unit, hashes, unit[:0], hashes[:0], np.empty(0, np.intp))
    return Written(Made({}, views), figures, (review, duplicate))


def thresholds() -> tuple[float, float]:
    """Those that ship: review, duplicate."""
    calibration = Calibration.load()
    return calibration.review_threshold, calibration.duplicate_threshold


def imagenet() -> Methods:
    """ImageNet features beside our encoder."""
    return Methods(load_encoder(), (), imagenet_features(IMAGENET_WEIGHTS))


def main() -> None:
    """Write rows, figures and thresholds."""
    if not BSDS500.exists():
        raise SystemExit(f"{BSDS500} is not here: the file would lack its rows")
    methods = Methods(load_encoder())
    grounds = {name: ground() for name, ground in GROUNDS.items()}
    rows = {name: rows_of(ground, methods) for name, ground in grounds.items()}
    figures = {name: measure(ground, methods, OURS, rows[name]) for name, ground in grounds.items()}
    arrays: dict[str, Any] = {f"figures_{name}": np.array(list(found.values())) for name, found in figures.items()}
    np.savez(
        ROWS,
        model_id=np.array(methods.encoder.model_id),
        thresholds=np.array(thresholds()),
        sha256=np.array([photo.sha256 for ground in grounds.values() for photo in ground.photos]),
        vectors=np.concatenate([made.views.whole for made in rows.values()]).astype(np.float16),
        hashes=np.sign(np.concatenate([made.views.hashes for made in rows.values()])).astype(np.int8),
        names=np.array(list(next(iter(figures.values())))),
        **arrays,
    )
    for name, found in figures.items():
        sys.stdout.write(f"{name} {found}\n")


if __name__ == "__main__":
    main()
