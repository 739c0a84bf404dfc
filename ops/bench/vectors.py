"""Embeddings in any number: of photos, of edited copies of them, and rows drawn from the same distribution."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.edits import EDITS
from models.encoder import load_encoder
from models.photos import encode_all
from models.preprocess import upright_rgb
from schemas.events import Vector

# Of the covariance of few photos in 256 dimensions; the rest is a sphere of the same spread.
OWN_SHARE = 0.5
EXACT_BATCH = 256


@dataclass(frozen=True, slots=True)
class Ground:
    """Rows float32 [N, 256], the photos' first, and queries: copies float32 [M, 256] of the row `own` int64 [M]."""

    rows: Vector
    copies: Vector
    own: NDArray[np.int64]

    def exact(self, tenants: int) -> NDArray[np.int64]:
        """The nearest row of each copy among its tenant's (row n belongs to tenant n mod `tenants`), by brute force."""
        nearest = np.empty(len(self.copies), dtype=np.int64)
        for tenant in range(tenants):
            mine = np.flatnonzero(self.own % tenants == tenant)
            rows = self.rows[tenant::tenants]
            for start in range(0, len(mine), EXACT_BATCH):
                part = mine[start : start + EXACT_BATCH]
                nearest[part] = (self.copies[part] @ rows.T).argmax(axis=1) * tenants + tenant
        return nearest


def ground_of(photos: Sequence[bytes], copies: int, rows: int, seed: int = 0) -> Ground:
    """Rows enough, and one edited copy each of the first photos (over and over, with other edits)."""
    encoder, random = load_encoder(), Random(seed)  # noqa: S311 - a seed
    images = [upright_rgb(Image.open(io.BytesIO(data))) for data in photos]
    known = encode_all(encoder, images)[:rows]
    own = np.arange(copies, dtype=np.int64) % len(known)
    edits = list(EDITS.values())
    edited = encode_all(encoder, (random.choice(edits)(images[place], random) for place in own))
    return Ground(np.concatenate([known, like(known, rows - len(known), seed)]), edited, own)


def like(known: Vector, count: int, seed: int) -> Vector:
    """float32 [count, 256] of unit length, drawn from a normal distribution with the mean and covariance of these."""
    random = np.random.default_rng(seed)
    mean, size = known.mean(axis=0), known.shape[1]
    covariance = np.cov(known, rowvar=False) if len(known) > 1 else np.eye(size) / size
    sphere = np.eye(size) * np.trace(covariance) / size
    shape = np.linalg.cholesky(OWN_SHARE * covariance + (1 - OWN_SHARE) * sphere + 1e-9 * np.eye(size))
    drawn = mean + random.standard_normal((count, size)).astype(np.float32) @ shape.T.astype(np.float32)
    unit: Vector = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit
