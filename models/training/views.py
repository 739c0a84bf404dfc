"""Edited views of photos, made in worker processes, and the order in which photos are met."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, Sampler

from models.edits import Edit, families
from models.photos import Photo
from schemas.events import Vector

# Edits of small pictures cost a third; the network sees 224 pixels at most.
LONG_SIDE = 320
# Of two views, how often the first is the photo itself with one edit at most.
MILD_SHARE = 1 / 3
EDITS_IN_A_ROW = (1, 1, 2, 2, 3, 4)
# What the table of edits shows to be hard is drawn more often.
WEIGHTS = {
    "crop": 8.0,
    "screenshot": 3.0,
    "quarter_turn": 2.5,
    "collage": 2.5,
    "picture_in_picture": 2.0,
    "photo_of_screen": 2.0,
    "rotation": 2.0,
    "desktop": 1.5,
}
# Of each photo, among which its company in a batch is looked for.
NEIGHBOURS = 16
_SLICE = 1024
_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


@dataclass(frozen=True, slots=True)
class Pictures(Sequence[Image.Image]):
    """Decoded photos, small enough to stay in memory: uint8 [H, W, 3] each."""

    arrays: Sequence[NDArray[np.uint8]]

    @classmethod
    def of(cls, photos: Sequence[Photo]) -> Pictures:
        with ThreadPoolExecutor() as threads:
            return cls(list(threads.map(_small, photos)))

    def __len__(self) -> int:
        return len(self.arrays)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...

    @overload
    def __getitem__(self, place: slice) -> Pictures: ...

    def __getitem__(self, place: int | slice) -> Image.Image | Pictures:
        if isinstance(place, slice):
            return Pictures(self.arrays[place])
        return Image.fromarray(self.arrays[place])


def _small(photo: Photo) -> NDArray[np.uint8]:
    image = photo.open()
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


class Views(Dataset[tuple[int, torch.Tensor]]):
    """Item (round, side, n): n, and uint8 [2, side, side, 3], two views of photo n.

    Seed, round and n decide all.
    """

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self._pictures, self._seed = pictures, seed

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[int, torch.Tensor]:
        number, side, place = key
        random = Random(f"{self._seed}:{number}:{place}")  # noqa: S311 - a seed
        edits, weights = self._drawn
        image = self._pictures[place]
        views = []
        for mild in (random.random() < MILD_SHARE, False):
            count = random.randint(0, 1) if mild else random.choice(EDITS_IN_A_ROW)
            view = image
            for edit in random.choices(edits, weights, k=count):
                view = edit(view, random)
            views.append(np.asarray(view.resize((side, side), random.choice(_FILTERS)), dtype=np.uint8))
        return place, torch.from_numpy(np.stack(views))

    @cached_property
    def _drawn(self) -> tuple[list[Edit], list[float]]:
        """The trained edits and how often each is drawn; made in the worker, since closures do not travel to it."""
        trained = {name: family.draw for name, family in families(self._pictures).items() if family.draw}
        return list(trained.values()), [WEIGHTS.get(name, 1.0) for name in trained]


class Rounds(Sampler[list[tuple[int, int, int]]]):
    """Batches of keys of `Views`, round after round without an end: every photo is met once a round.

    In a batch a share of the photos are neighbours of others, so that what is easily mistaken is told apart: a batch
    starts from random photos, each of which brings its nearest photo that is still to come.

    Attributes:
        steps: batches a round.
        side: of the views in pixels, from the next batch on.
        neighbours: int [P, K], the nearest photos of each, from the next round on; None for random batches.
    """

    def __init__(self, count: int, batch: int, seed: int, first: int, side: int) -> None:
        self._count, self._batch, self._seed, self._first = count, batch, seed, first
        self.steps = count // batch
        self.side = side
        self.neighbours: NDArray[np.int64] | None = None

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for number in itertools.count(self._first):
            order = np.random.default_rng(self._seed + number).permutation(self._count).tolist()
            if self.neighbours is not None:
                order = _paired(order, self.neighbours)
            for start in range(0, self.steps * self._batch, self._batch):
                yield [(number, self.side, place) for place in order[start : start + self._batch]]


def neighbours_of(vectors: Vector) -> NDArray[np.int64]:
    """int [P, K]: the nearest others of each, the nearest first. Takes P x P cosines in slices."""
    kept = min(NEIGHBOURS, len(vectors) - 1)
    found = []
    for start in range(0, len(vectors), _SLICE):
        cosines = vectors[start : start + _SLICE] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        nearest = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
        ranks = np.argsort(-np.take_along_axis(cosines, nearest, axis=1), axis=1)
        found.append(np.take_along_axis(nearest, ranks, axis=1))
    return np.concatenate(found)


def _paired(order: list[int], neighbours: NDArray[np.int64]) -> list[int]:
    left = [True] * len(order)
    paired: list[int] = []
    for place in order:
        if not left[place]:
            continue
        left[place] = False
        paired.append(place)
        nearest = next((other for other in neighbours[place].tolist() if left[other]), None)
        if nearest is not None:
            left[nearest] = False
            paired.append(nearest)
    return paired
