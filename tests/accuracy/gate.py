"""The accuracy gate: every edit of a few photographs, looked for among rows that an earlier run wrote.

The rows are in the project as numbers, as an index holds rows that an earlier process wrote: a worker that reads
colours in another order finds its own rows, but not these. New weights need new rows and new floors:

    python -m tests.accuracy.gate
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage

from models.background import Background
from models.calibration import Calibration
from models.edits import EDITS, FAMILIES, UNTRAINED
from models.encoder import load_encoder
from models.evaluation.answers import Answers, ask
from models.evaluation.baselines import imagenet_features
from models.evaluation.metrics import f1, micro_ap, recall_at
from models.evaluation.queries import IMAGENET, OURS, Methods, Task, workshop
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


@dataclass(frozen=True, slots=True)
class Figures:
    """What the gate looks at. The last two are at the deployed duplicate threshold."""

    micro_ap: float
    mean_recall_at_99: float
    untrained_recall_at_99: float
    precision: float
    recall: float

    def short_of(self, floors: Figures) -> list[str]:
        """What is below its floor, in words."""
        theirs = asdict(floors)
        return [
            f"{name} {value:.3f} < {theirs[name]:.3f}" for name, value in asdict(self).items() if value < theirs[name]
        ]


class Ground(NamedTuple):
    """Photographs; the first `asked` are edited, all are rows."""

    photos: list[Photo]
    asked: int
    floors: Figures


def wheel() -> Ground:
    """Photographs of scikit-image's wheel, textures among them that are taken for each other."""
    folder = Path(skimage.__file__).parent / "data"
    photos = [
        Photo(hashlib.sha256(content).hexdigest(), name, content)
        for name, content in ((name, (folder / name).read_bytes()) for name in WHEEL)
    ]
    return Ground(photos, len(photos), Figures(0.978, 0.92, 0.90, 0.98, 0.77))


def bsds500() -> Ground:
    """The tuning part of BSDS500, which is not in the project."""
    part = split(TUNE)
    photos = sorted((p for p in read_photos([BSDS500]) if p.sha256 in part), key=lambda photo: photo.sha256)
    return Ground(photos, ASKED, Figures(0.98, 0.915, 0.91, 0.99, 0.88))


GROUNDS: dict[str, Callable[[], Ground]] = {"wheel": wheel, **({"bsds500": bsds500} if BSDS500.exists() else {})}


def measure(ground: Ground, methods: Methods, method: str, rows: Vector) -> Figures:
    """Ask for every edit of the photos among these rows, float32 [N, d]."""
    asked = ground.photos[: ground.asked]
    with workshop(methods) as bench:
        queries = [bench.rows(Task(photo, edit) for photo in asked)[method] for edit in EDITS]
    answers = ask(queries, Background.load().against(rows) if method == OURS else cosine(rows))
    return _figures(answers, Calibration.load().duplicate_threshold)


def _figures(answers: Answers, threshold: float) -> Figures:
    scores, right = answers.flat()
    _, at_99 = recall_at(scores, right, answers.positives, 0.99)
    per_edit = dict(zip(EDITS, answers.recall_per_edit(at_99), strict=True))
    precision, recall, _ = f1(scores, right, answers.positives, threshold)
    return Figures(
        micro_ap=micro_ap(scores, right, answers.positives),
        mean_recall_at_99=float(np.mean(list(per_edit.values()))),
        untrained_recall_at_99=float(np.mean([per_edit[edit] for name in UNTRAINED for edit in FAMILIES[name].edits])),
        precision=precision,
        recall=recall,
    )


def rows_of(ground: Ground, methods: Methods, method: str = OURS) -> Vector:
    """Encoded now."""
    with workshop(methods) as bench:
        return bench.rows(Task(photo) for photo in ground.photos)[method]


def written_rows(ground: Ground) -> Vector:
    """Encoded when the weights were made.

    Raises:
        KeyError: a photo is not among them.
        AssertionError: they are of other weights.
    """
    with np.load(ROWS, allow_pickle=False) as file:
        expected, found = load_encoder().model_id, str(file["model_id"])
        assert found == expected, f"rows of {found}, weights of {expected}: run python -m tests.accuracy.gate"
        places = {name: place for place, name in enumerate(file["sha256"].tolist())}
        rows: Vector = file["vectors"].astype(np.float32)[[places[photo.sha256] for photo in ground.photos]]
    unit: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def imagenet() -> Methods:
    """ImageNet features beside our encoder."""
    return Methods(load_encoder(), (), imagenet_features(IMAGENET_WEIGHTS))


def main() -> None:
    """Write the rows; print what the figures are, from which the floors are set."""
    methods = Methods(load_encoder())
    grounds = {name: ground() for name, ground in GROUNDS.items()}
    rows = {name: rows_of(ground, methods) for name, ground in grounds.items()}
    np.savez(
        ROWS,
        model_id=np.array(methods.encoder.model_id),
        sha256=np.array([photo.sha256 for ground in grounds.values() for photo in ground.photos]),
        vectors=np.concatenate(list(rows.values())).astype(np.float16),
    )
    for name, ground in grounds.items():
        sys.stdout.write(f"{name} {measure(ground, methods, OURS, rows[name])}\n")
        if IMAGENET_WEIGHTS.exists():
            both = imagenet()
            theirs = measure(ground, both, IMAGENET, rows_of(ground, both, IMAGENET))
            sys.stdout.write(f"{name} {IMAGENET} {theirs}\n")


if __name__ == "__main__":
    main()
