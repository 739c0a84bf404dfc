"""Background normalisation: how near a picture is to pictures in general.

score = cosine - (bias(a) + bias(b)) / 2. A picture that resembles everything (a plain sky, a page of text) has
a high bias, so that its high cosines count for less. The bias is the mean cosine to the nearest background vectors
times a weight; both numbers are chosen on the tuning photos and are part of the file, and so of the model id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from models.manifest import BACKGROUND, BUILT_IN, read_manifest, verified
from schemas.events import Vector
from stream.errors import SettingError

NEAREST = 5
WEIGHT = 1.4


@dataclass(frozen=True, slots=True)
class Background:
    """Unit vectors of photos that nobody asks about, float32 [M, 256], and which photos these are."""

    vectors: Vector
    photo_ids: frozenset[int] = frozenset()
    nearest: int = NEAREST
    weight: float = WEIGHT

    @classmethod
    def load(cls, weights: Path | None = None) -> Background:
        """The background of a weights folder; of the built-in one if None.

        Raises:
            SettingError: the folder is incomplete, damaged or of an older release.
        """
        folder = weights or BUILT_IN
        content = verified(folder, read_manifest(folder), (BACKGROUND,))[BACKGROUND]
        with np.load(BytesIO(content), allow_pickle=False) as file:
            vectors = file["vectors"].astype(np.float32)
            if "weight" not in file:
                raise SettingError(f"model.weights: {folder / BACKGROUND} is of an older release; run models.fit again")
            ids, nearest, weight = frozenset(file["photo_ids"].tolist()), int(file["nearest"]), float(file["weight"])
        # Rounding to float16 leaves them a little off unit length.
        return cls(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), ids, nearest, weight)

    def save(self, file: Path) -> None:
        """Write the vectors as float16, and what `load` needs beside them."""
        np.savez(
            file, vectors=self.vectors.astype(np.float16), photo_ids=np.array(sorted(self.photo_ids), dtype=np.uint64),
            nearest=np.array(self.nearest), weight=np.array(self.weight),
        )  # fmt: skip

    def holds(self, sha256: str) -> bool:
        """Whether a photo is one of the background: its own nearest, so that its bias would be too high."""
        return photo_id(sha256) in self.photo_ids

    def bias(self, vectors: Vector) -> Vector:
        """float32 [N, 256] of unit length -> float32 [N]: weighted mean cosine to the nearest of them."""
        cosines = vectors @ self.vectors.T
        nearest = np.partition(cosines, -self.nearest, axis=1)[:, -self.nearest :]
        bias: Vector = nearest.mean(axis=1, dtype=np.float32) * np.float32(self.weight)
        return bias

    def against(self, rows: Vector) -> Callable[[Vector], Vector]:
        """Normalised scores against float32 [M, 256], whose biases are taken once: [N, 256] -> [N, M]."""
        row_bias = self.bias(rows)

        def scores(queries: Vector) -> Vector:
            found: Vector = queries @ rows.T - (self.bias(queries)[:, None] + row_bias) / np.float32(2)
            return found

        return scores


def photo_id(sha256: str) -> int:
    """The first 64 bits of a hash: enough to know a photo again."""
    return int(sha256[:16], 16)
