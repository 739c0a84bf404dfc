"""Rows, links and settings for the tests of the index."""

from __future__ import annotations

import hashlib

import numpy as np

from schemas.events import Vector, VerdictKind
from stream.neighbours.protocol import Link, Row
from stream.tenants import row_id

DIMENSION = 32
MODEL = "model-0123456789ab"


def unit(seed: int, dimension: int = DIMENSION) -> Vector:
    """A random direction, float32 [dimension]."""
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def at_cosine(vector: Vector, cosine: float, seed: int = 1) -> Vector:
    """A unit vector at this cosine to a unit vector."""
    other = unit(10_000 + seed, len(vector))
    other = other - np.dot(other, vector) * vector
    other = other / np.linalg.norm(other)
    turned: Vector = (cosine * vector + np.sqrt(1 - cosine**2) * other).astype(np.float32)
    return turned


def make_row(number: int, tenant: str = "acme", *, embedding: Vector | None = None, offset: int | None = None) -> Row:
    sha256 = hashlib.sha256(f"{number}".encode()).hexdigest()
    return Row(
        row_id=row_id(tenant, sha256),
        tenant=tenant,
        upload_id=f'upload-{number} "quoted" é',
        sha256=sha256,
        pdq=hashlib.sha256(f"pdq {number}".encode()).hexdigest(),
        pdq_quality=number % 101,
        bias=0.25,
        verdict=VerdictKind.UNIQUE if number % 2 else VerdictKind.REVIEW,
        ledger_partition=3,
        ledger_offset=number if offset is None else offset,
        entry=f'{{"number": {number}}}',
        embedding=unit(number) if embedding is None else embedding,
    )


def make_link(
    start: int, end: int, *, topic: str = "AbC-_0123456789abcdefg", partition: int = 0, at: int = 2**60
) -> Link:
    return Link(topic, partition, 12, start, end, at)
