"""Background normalisation: how near a picture is to pictures in general.

score = cosine - (bias(a) + bias(b)) / 2. A picture that resembles everything (a plain sky, a page of text) has
a high bias, so that its high cosines count for less.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from models.manifest import BACKGROUND, BUILT_IN, read_manifest, verified
from schemas.events import Vector

NEAREST = 20


@dataclass(frozen=True, slots=True)
class Background:
    """Unit vectors of photos that nobody asks about, float32 [M, 256]."""

    vectors: Vector

    @classmethod
    def load(cls, weights: Path | None = None) -> Background:
        """The background of a weights folder; of the built-in one if None.

        Raises:
            SettingError: the folder is incomplete or damaged.
        """
        folder = weights or BUILT_IN
        content = verified(folder, read_manifest(folder), (BACKGROUND,))[BACKGROUND]
        with np.load(BytesIO(content), allow_pickle=False) as file:
            return cls.of(file["vectors"].astype(np.float32))

    @classmethod
    def of(cls, vectors: Vector) -> Background:
        """A background of these vectors, brought to unit length (rounding to float16 leaves them a little off)."""
        return cls(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def bias(self, vectors: Vector) -> Vector:
        """float32 [N, 256] of unit length -> float32 [N]: mean cosine to the 20 nearest background vectors."""
        cosines = vectors @ self.vectors.T
        nearest = np.partition(cosines, -NEAREST, axis=1)[:, -NEAREST:]
        mean: Vector = nearest.mean(axis=1, dtype=np.float32)
        return mean
