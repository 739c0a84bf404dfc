"""A record of the fingerprints topic as something to judge. Pure.

What is refused here would do harm further on: a number beyond all measure ends the stage, a NaN makes every
comparison false (a silent `unique`), and an entry that is too long for a row of the index stops INDEX for good.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from pydantic import ValidationError

from schemas.events import (
    DETAIL_CHARS_MAX,
    Fingerprint,
    FingerprintFailure,
    Reason,
    SourcePosition,
    fingerprint_record,
)
from stream.errors import ItemError
from stream.judge import Work
from stream.kafka import Record
from stream.tenants import parse_tenant, partition_of

# A failure with all its truncated headers, each character escaped, takes 40 kB; a fingerprint 3 kB, or 12 with the
# longest ids and four panels. What it holds beside the vector becomes the entry of a row, which has 64 kB.
RECORD_BYTES_MAX = 65_536
FINGERPRINT_BYTES_MAX = 16_384
NUMBER_MAX = 2**63 - 1
# Kafka's own rule. The name stands in the command that a dead letter tells people to run.
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Intake:
    """What a fingerprint must fit to be judged here."""

    topic_id: str
    partitions: int
    model_id: str
    allowed_tenants: Collection[str] | None

    def work(self, record: Record) -> Work:
        """Parse a record; what cannot be judged becomes a failure, so that it gets a dead letter."""
        return Work(record.partition, record.offset, self._parsed(record))

    def is_foreign(self, work: Work) -> bool:
        """Whether another model made this fingerprint; it must not be judged against this index."""
        return isinstance(work.record, Fingerprint) and work.record.model_id != self.model_id

    def foreign(self, work: Work) -> Work:
        """The failure that a foreign fingerprint becomes once it has waited long enough."""
        record = work.record
        if not isinstance(record, Fingerprint):
            return work
        detail = f"encoded by model {record.model_id}, this deployment judges {self.model_id}"
        return Work(work.partition, work.offset, _failure(record, Reason.FOREIGN_MODEL, detail))

    def _parsed(self, record: Record) -> Fingerprint | FingerprintFailure:
        value = record.value or b""
        if len(value) > RECORD_BYTES_MAX:
            return self._unreadable(record, f"{len(value)} bytes, at most {RECORD_BYTES_MAX} are allowed")
        try:
            parsed = fingerprint_record.validate_json(value)
        except ValidationError as error:
            return self._unreadable(record, _first_fault(error))
        fault = _fault(parsed, len(value))
        if fault is not None:
            return self._unreadable(record, fault)
        return self._checked(parsed, record.partition) if isinstance(parsed, Fingerprint) else parsed

    def _checked(self, record: Fingerprint, partition: int) -> Fingerprint | FingerprintFailure:
        try:
            parse_tenant(record.tenant.encode(), self.allowed_tenants)
        except ItemError as error:
            return _failure(record, error.reason, error.detail)
        expected = partition_of(record.tenant.encode(), self.partitions)
        if expected == partition:
            return record
        detail = (
            f"tenant {record.tenant!r} is judged in partition {expected} of {self.partitions}, the fingerprint came in "
            f"{partition}: its producer uses another partitioner or partition count"
        )
        return _failure(record, Reason.WRONG_PARTITION, detail)

    def _unreadable(self, record: Record, fault: str) -> FingerprintFailure:
        return FingerprintFailure(
            source=SourcePosition(topic_id=self.topic_id, partition=record.partition, offset=record.offset),
            source_topic=record.topic,
            upload_timestamp_ms=record.timestamp_ms,
            reason=Reason.BAD_FINGERPRINT,
            detail=f"not a fingerprint: {fault}"[:DETAIL_CHARS_MAX],
        )


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _fault(record: Fingerprint | FingerprintFailure, byte_count: int) -> str | None:
    """What no ENCODE of ours writes although the contract's types allow it."""
    numbers = [record.source.partition, record.source.offset, abs(record.upload_timestamp_ms)]
    if not _TOPIC.fullmatch(record.source_topic):
        return "source_topic is no topic's name"
    if isinstance(record, Fingerprint):
        numbers += [record.width, record.height, record.byte_count]
        if byte_count > FINGERPRINT_BYTES_MAX:
            return f"{byte_count} bytes, a fingerprint has {FINGERPRINT_BYTES_MAX} at most"
        # A mean of cosines; NaN lies in no range.
        biases = [record.bias, *(panel.bias for panel in record.panels)]
        if not all(-1.0 <= bias <= 1.0 for bias in biases) or not all(map(math.isfinite, record.timings_s.values())):
            return "a bias is not within [-1, 1], or a timing is not finite"
    return f"a number is above {NUMBER_MAX}" if max(numbers) > NUMBER_MAX else None


def _failure(record: Fingerprint, reason: Reason, detail: str) -> FingerprintFailure:
    return FingerprintFailure(
        source=record.source,
        source_topic=record.source_topic,
        upload_timestamp_ms=record.upload_timestamp_ms,
        event_time=record.event_time,
        traceparent=record.traceparent,
        tenant=record.tenant,
        upload_id=record.upload_id,
        reason=reason,
        detail=detail[:DETAIL_CHARS_MAX],
    )
