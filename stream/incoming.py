"""A record of the fingerprints topic as something to judge. Pure."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Intake:
    """What a fingerprint must fit to be judged here."""

    topic_id: str
    partitions: int
    model_id: str
    allowed_tenants: Collection[str] | None

    def work(self, record: Record) -> Work:
        """Parse a record; what cannot be judged becomes a failure, so that it gets a dead letter."""
        try:
            parsed = fingerprint_record.validate_json(record.value or b"")
        except ValidationError as error:
            return Work(record.partition, record.offset, self._unreadable(record, error))
        if isinstance(parsed, Fingerprint):
            return Work(record.partition, record.offset, self._checked(parsed, record.partition))
        return Work(record.partition, record.offset, parsed)

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

    def _unreadable(self, record: Record, error: ValidationError) -> FingerprintFailure:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return FingerprintFailure(
            source=SourcePosition(topic_id=self.topic_id, partition=record.partition, offset=record.offset),
            source_topic=record.topic,
            upload_timestamp_ms=record.timestamp_ms,
            reason=Reason.BAD_FINGERPRINT,
            detail=f"not a fingerprint: {where}: {first['msg']}"[:DETAIL_CHARS_MAX],
        )


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
