"""Fingerprints, ledger entries and rows from bare vectors: DECIDE and INDEX without pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from models.model import Model
from ops.bench.rig import PARTITIONS, Deployment
from schemas.events import (
    Fingerprint,
    LedgerEntry,
    Representative,
    SourcePosition,
    Trace,
    Vector,
    Verdict,
    VerdictKind,
    encode_embedding,
)
from stream.indexrows import rows_of
from stream.kafka import LogProducer, Outgoing, Record
from stream.neighbours.protocol import Row
from stream.tenants import partition_of, row_id

TENANTS = 4
RUNTIME = "bench"
INSERTED_AT_ONCE = 512
PRODUCED_AT_ONCE = 2_000


def tenant_of(number: int) -> str:
    return f"tenant-{number % TENANTS}"


def fingerprint(
    number: int, name: str, tenant: str, vector: Vector, bias: float, deployment: Deployment, model: Model
) -> Fingerprint:
    """As ENCODE writes it, of the upload at this place of the uploads topic."""
    return Fingerprint(
        source=SourcePosition(topic_id="bench", partition=number % PARTITIONS, offset=number // PARTITIONS),
        source_topic=deployment.settings.topics.uploads, upload_timestamp_ms=0,
        tenant=tenant, upload_id=name, sha256=_sha256(name), pdq=_sha256(f"pdq {name}"), pdq_quality=100,
        embedding=encode_embedding(vector), bias=float(bias), model_id=model.model_id,
        format="JPEG", width=640, height=480, byte_count=100_000, runtime=RUNTIME, timings_s={"decode": 0.004},
    )  # fmt: skip


def ledger_entry(of: Fingerprint) -> LedgerEntry:
    """What DECIDE writes of a picture that nothing resembles."""
    trace = Trace(
        source=of.source, source_topic=of.source_topic, upload_timestamp_ms=of.upload_timestamp_ms, runtime=RUNTIME
    )
    verdict = Verdict(
        tenant=of.tenant, upload_id=of.upload_id, verdict=VerdictKind.UNIQUE, similarity=0.1, score=0.05,
        threshold=0.2, margin=-0.15, confidence=0.0, model_id=of.model_id, sha256=of.sha256, trace=trace,
    )  # fmt: skip
    representative = Representative(
        row_id=row_id(of.tenant, of.sha256),
        embedding=of.embedding,
        bias=of.bias,
        pdq=of.pdq,
        pdq_quality=of.pdq_quality,
    )
    return LedgerEntry(
        source=of.source, source_topic=of.source_topic, upload_timestamp_ms=of.upload_timestamp_ms, verdict=verdict,
        representative=representative,
    )  # fmt: skip


def row_of(number: int, vector: Vector, bias: float, deployment: Deployment, model: Model) -> Row:
    """As INDEX inserts it."""
    made = ledger_entry(fingerprint(number, f"row-{number}", tenant_of(number), vector, bias, deployment, model))
    partition = partition_of(tenant_of(number).encode(), PARTITIONS)
    value = made.model_dump_json(exclude_none=True).encode()
    (row,) = rows_of([Record(deployment.settings.topics.ledger, partition, number, 0, [], value)])
    return row


def in_pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """As many as INDEX inserts at once."""
    return (rows[start : start + INSERTED_AT_ONCE] for start in range(0, len(rows), INSERTED_AT_ONCE))


def publish(
    deployment: Deployment, topic: str, made: Sequence[Fingerprint | LedgerEntry], tenants: Sequence[str]
) -> None:
    """Put records on the partitions of their tenants."""
    producer = LogProducer(deployment.settings)
    for start in range(0, len(made), PRODUCED_AT_ONCE):
        some = zip(made[start : start + PRODUCED_AT_ONCE], tenants[start : start + PRODUCED_AT_ONCE], strict=True)
        producer.produce(
            Outgoing(
                topic,
                one.model_dump_json(exclude_none=True).encode(),
                partition=partition_of(tenant.encode(), PARTITIONS),
            )
            for one, tenant in some
        )
        producer.flush()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
