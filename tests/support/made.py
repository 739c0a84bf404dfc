"""Made-up items with stated similarities, for tests of the rule and the window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.events import Box, Fingerprint, Panel, SourcePosition, Vector, VerdictKind, encode_embedding
from stream.decision import Item, Rule
from stream.judge import Work
from stream.neighbours.protocol import Hit

MODEL_ID = "made-up-model"
DUPLICATE, REVIEW = 0.8, 0.6


@dataclass(frozen=True)
class Line:
    """A calibration: confidence is the score, within [0, 1]; half way to 1 where the perceptual hashes agree."""

    def confidence(self, score: float, *, agreed: bool) -> float:
        alone = min(1.0, max(0.0, score))
        return (alone + 1) / 2 if agreed else alone


RULE = Rule(DUPLICATE, REVIEW, 10, Line())


def rule_of(_tenant: str) -> Rule:
    return RULE


def unit(vector: Vector) -> Vector:
    result: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return result


def random_vector(seed: int) -> Vector:
    return unit(np.random.default_rng(seed).standard_normal(256).astype(np.float32))


def at_similarity(vector: Vector, similarity: float, seed: int = 0) -> Vector:
    """A unit vector with this cosine to `vector`."""
    other = np.random.default_rng(seed + 1_000_003).standard_normal(256)
    orthogonal = unit((other - (other @ vector) * vector).astype(np.float32))
    return unit(similarity * vector + np.sqrt(max(0.0, 1 - similarity**2)) * orthogonal)


def sha(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def fingerprint(
    offset: int,
    vector: Vector,
    *,
    tenant: str = "t",
    upload_id: str | None = None,
    content: object = None,
    bias: float = 0.0,
    partition: int = 0,
    model_id: str = MODEL_ID,
    panels: Sequence[Panel] = (),
) -> Fingerprint:
    """The fingerprint of the upload at this source offset; its bytes are named by `content`."""
    return Fingerprint(
        source=SourcePosition(topic_id="uploads-1", partition=partition, offset=offset),
        source_topic="dejaview.uploads",
        upload_timestamp_ms=1_000 + offset,
        tenant=tenant,
        upload_id=upload_id or f"u{offset}",
        sha256=sha(content if content is not None else f"bytes{offset}"),
        pdq="0" * 64,
        pdq_quality=0,
        embedding=encode_embedding(vector),
        bias=bias,
        panels=list(panels),
        model_id=model_id,
        format="JPEG",
        width=10,
        height=10,
        byte_count=100,
        runtime="made-up",
    )


def panel(seed: int) -> Panel:
    """The left half of an upload, which shows what this seed makes."""
    box = Box(left=0, top=0, right=0.5, bottom=1)
    return Panel(box=box, pdq="0" * 64, pdq_quality=0, embedding=encode_embedding(random_vector(seed)), bias=0.0)


def work(record: Fingerprint, offset: int | None = None, partition: int = 0) -> Work:
    return Work(partition, record.source.offset if offset is None else offset, record)


def item(seed: int = 0, **changes: object) -> Item:
    made = Item.of(fingerprint(seed, random_vector(seed)))
    return Item(**{name: changes.get(name, getattr(made, name)) for name in made.__slots__})  # type: ignore[arg-type]


def hit(
    similarity: float, *, name: str = "a", tenant: str = "t", bias: float = 0.0, offset: int = 0, **changes: object
) -> Hit:
    fields: dict[str, object] = {
        "row_id": hashlib.blake2b(f"{tenant}/{name}".encode(), digest_size=16).hexdigest(),
        "tenant": tenant,
        "upload_id": name,
        "sha256": sha(name),
        "pdq": "f" * 64,
        "pdq_quality": 0,
        "bias": bias,
        "verdict": VerdictKind.UNIQUE,
        "ledger_offset": offset,
        "similarity": similarity,
    }
    return Hit(**{**fields, **changes})  # type: ignore[arg-type]
