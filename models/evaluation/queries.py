"""Pictures to rows: what every method makes of photos and of edited copies, computed in child processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import get_context
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.background import Background
from models.edits import Edit, families, paper_mix
from models.encoder import Encoder
from models.evaluation.baselines import HASHES, imagenet_input, trusted_row
from models.evaluation.decision import Views, joined
from models.panels import panels
from models.perceptual import pdq
from models.photos import Photo
from models.preprocess import Reduction
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import SettingError

OURS, IMAGENET = "dejaview", "ImageNet features"
PAPER = "paper_mix"
_CHUNK = 64
_COMPLETING_MAX = 60
_NOTHING: Vector = np.empty((0, EMBEDDING_SIZE), np.float32)
_NO_VIEWS = Views(_NOTHING, _NOTHING, _NOTHING, _NOTHING, np.empty(0, np.intp))


class Task(NamedTuple):
    """One picture: a photo as it is, or after an edit. The seed decides the edit's chances."""

    photo: Photo
    edit: str | None = None
    draw: int = 0

    @property
    def seed(self) -> str:
        return f"{self.edit}:{self.draw}:{self.photo.sha256}"


class _Inputs(NamedTuple):
    hashes: dict[str, Vector]
    ours: list[NDArray[np.uint8]]
    trusted: list[Vector]
    imagenet: NDArray[np.uint8] | None


class Made(NamedTuple):
    """What is made of pictures: by the others' names float32 [N, its size] of unit length, and our views of them."""

    rows: dict[str, Vector]
    views: Views


@dataclass(frozen=True, slots=True)
class Methods:
    """What is compared: our encoder always, hashes by name, ImageNet features when their weights are given."""

    encoder: Encoder
    hashes: Sequence[str] = ()
    imagenet: Callable[[NDArray[np.uint8]], Vector] | None = None

    @property
    def names(self) -> list[str]:
        return [OURS, *self.hashes, *([IMAGENET] if self.imagenet else [])]


class Workshop:
    """Edits and hashes pictures in as many processes as there are cores, encodes in this one."""

    def __init__(self, methods: Methods, others: Sequence[bytes], pool: ProcessPoolExecutor) -> None:
        self._methods, self._others, self._pool = methods, others, pool

    def made(self, tasks: Iterable[Task]) -> Made:
        """Of every task, in their order."""
        hashes = tuple(self._methods.hashes)
        parts: dict[str, list[Vector]] = {name: [] for name in self._methods.names if name != OURS}
        views: list[Views] = []
        for chunk in _chunks(tasks):
            wanted = (hashes, self._methods.imagenet is not None)
            made = list(self._pool.map(_inputs, [(task, *wanted) for task in chunk], chunksize=8))
            views.append(self._views(made))
            for name in hashes:
                parts[name].append(np.stack([one.hashes[name] for one in made]))
            if self._methods.imagenet:
                inputs = np.stack([one.imagenet for one in made if one.imagenet is not None])
                parts[IMAGENET].append(self._methods.imagenet(inputs))
        rows = {
            name: np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)
            for name, vectors in parts.items()
        }
        return Made(rows, joined(views) if views else _NO_VIEWS)

    def _views(self, made: Sequence[_Inputs]) -> Views:
        vectors = self._methods.encoder.encode(np.stack([pixels for one in made for pixels in one.ours]))
        hashes = np.stack([row for one in made for row in one.trusted])
        owners = np.array([n for n, one in enumerate(made) for _ in one.ours], dtype=np.intp)
        # A picture's first view is itself.
        first = np.diff(owners, prepend=-1) > 0
        return Views(vectors[first], hashes[first], vectors[~first], hashes[~first], owners[~first])


@contextmanager
def workshop(methods: Methods, others: Sequence[bytes] = ()) -> Iterator[Workshop]:
    """A workshop; `others` are the pictures that collages are completed with, which must be nobody's row."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _set_up, (tuple(others),)) as pool:
        yield Workshop(methods, others, pool)


def parted(others: Iterable[Photo], background: Background) -> tuple[list[Photo], list[bytes]]:
    """Rows, and what collages are completed with: background photos, which are no rows (their bias is too high)."""
    rows, completing = [], []
    for photo in others:
        if background.holds(photo.sha256):
            completing.append(photo.content)
        else:
            rows.append(photo)
    return rows, completing[:_COMPLETING_MAX]


def edited(task: Task, edits: dict[str, Edit]) -> Image.Image:
    """The picture of a task.

    Raises:
        SettingError: its photo cannot be read.
    """
    try:
        image = task.photo.open()
    except OSError as error:
        raise SettingError(f"{task.photo.name} cannot be read: {error}") from error
    return image if task.edit is None else edits[task.edit](image, Random(task.seed))  # noqa: S311 - a seed


def edits_with(others: Sequence[bytes]) -> dict[str, Edit]:
    """All named edits, the paper's mix among them."""
    pictures = [Image.open(BytesIO(content)).convert("RGB") for content in others]
    named = {name: edit for family in families(pictures).values() for name, edit in family.edits.items()}
    return {**named, PAPER: paper_mix}


_edits: dict[str, Edit] = {}


def _set_up(others: tuple[bytes, ...]) -> None:
    _edits.update(edits_with(others))


def _inputs(order: tuple[Task, tuple[str, ...], bool]) -> _Inputs:
    task, hashes, imagenet = order
    image = edited(task, _edits)
    reduction = Reduction(image)
    whole = reduction.whole()
    ours = [whole, *(reduction.part(*box.shares) for box in panels(whole))]
    return _Inputs(
        {name: HASHES[name](image) for name in hashes}, ours, [trusted_row(pdq(one)) for one in ours],
        imagenet_input(image) if imagenet else None,
    )  # fmt: skip


def _chunks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    for task in tasks:
        chunk.append(task)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
