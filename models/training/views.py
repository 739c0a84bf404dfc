"""Two edited views of each photo, made in worker processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


@dataclass(frozen=True, slots=True)
class Pictures(Sequence[Image.Image]):
    """Decoded photos, small enough to stay in memory: uint8 [H, W, 3] each."""

    arrays: Sequence[NDArray[np.uint8]]

    @classmethod
    def of(cls, photos: Sequence[Photo]) -> Pictures:
        arrays = []
        for photo in photos:
            image = photo.open()
            image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
            arrays.append(np.asarray(image, dtype=np.uint8))
        return cls(arrays)

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


class Views(Dataset[torch.Tensor]):
    """Item n: uint8 [2, side, side, 3], two views of photo n. Seed, round and n decide all."""

    def __init__(self, pictures: Pictures, side: int, seed: str) -> None:
        self._pictures, self._side, self._seed = pictures, side, seed

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, place: int) -> torch.Tensor:
        random = Random(f"{self._seed}:{place}")  # noqa: S311 - a seed
        edits, weights = self._drawn
        image = self._pictures[place]
        views = []
        for mild in (random.random() < MILD_SHARE, False):
            count = random.randint(0, 1) if mild else random.choice(EDITS_IN_A_ROW)
            view = image
            for edit in random.choices(edits, weights, k=count):
                view = edit(view, random)
            resized = view.resize((self._side, self._side), random.choice(_FILTERS))
            views.append(np.asarray(resized, dtype=np.uint8))
        return torch.from_numpy(np.stack(views))

    @cached_property
    def _drawn(self) -> tuple[list[Edit], list[float]]:
        """The trained edits and how often each is drawn; made in the worker, since closures do not travel to it."""
        trained = {name: family.draw for name, family in families(self._pictures).items() if family.draw}
        return list(trained.values()), [WEIGHTS.get(name, 1.0) for name in trained]


class HardBatches(Sampler[list[int]]):
    """Batches in which a share of the photos are neighbours of others: what is easily mistaken is told apart.

    Every photo is met once a round. A batch starts from random photos; each brings its nearest photo that is still
    to come.
    """

    def __init__(self, vectors: Vector | None, count: int, batch: int, seed: int) -> None:
        self._vectors, self._count, self._batch = vectors, count, batch
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self._count // self._batch

    def __iter__(self) -> Iterator[list[int]]:
        order = self._random.permutation(self._count).tolist()
        if self._vectors is not None:
            order = _paired(order, self._vectors)
        for start in range(0, len(self) * self._batch, self._batch):
            yield order[start : start + self._batch]


def _paired(order: list[int], vectors: Vector) -> list[int]:
    left = np.ones(len(order), dtype=bool)
    paired: list[int] = []
    for place in order:
        if not left[place]:
            continue
        left[place] = False
        paired.append(place)
        cosines = vectors @ vectors[place]
        cosines[~left] = -math.inf
        nearest = int(cosines.argmax())
        if left[nearest]:
            left[nearest] = False
            paired.append(nearest)
    return paired
