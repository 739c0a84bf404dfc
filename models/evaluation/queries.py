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
from models.evaluation.baselines import HASHES, TRUSTED_PDQ, imagenet_input
from models.photos import Photo
from models.preprocess import reduce
from schemas.events import Vector
from stream.errors import SettingError

OURS, IMAGENET = "dejaview", "ImageNet features"
PAPER = "paper_mix"
_CHUNK = 64
_COMPLETING_MAX = 60


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
    ours: NDArray[np.uint8]
    imagenet: NDArray[np.uint8] | None


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

    def rows(self, tasks: Iterable[Task]) -> dict[str, Vector]:
        """By method, and TRUSTED_PDQ, float32 [N, its size], unit length."""
        hashes = (*self._methods.hashes, TRUSTED_PDQ)
        parts: dict[str, list[Vector]] = {name: [] for name in (*self._methods.names, TRUSTED_PDQ)}
        for chunk in _chunks(tasks):
            wanted = (hashes, self._methods.imagenet is not None)
            made = list(self._pool.map(_inputs, [(task, *wanted) for task in chunk], chunksize=8))
            parts[OURS].append(self._methods.encoder.encode(np.stack([one.ours for one in made])))
            for name in hashes:
                parts[name].append(np.stack([one.hashes[name] for one in made]))
            if self._methods.imagenet:
                cut = np.stack([one.imagenet for one in made if one.imagenet is not None])
                parts[IMAGENET].append(self._methods.imagenet(cut))
        return {
            name: np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)
            for name, vectors in parts.items()
        }


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
    return _Inputs(
        {name: HASHES[name](image) for name in hashes}, reduce(image), imagenet_input(image) if imagenet else None
    )


def _chunks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    chunk: list[Task] = []
    for task in tasks:
        chunk.append(task)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
