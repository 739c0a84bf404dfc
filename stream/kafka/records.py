"""Records and topics as the stages see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message, TopicPartition

Headers = list[tuple[str, bytes]]

_CHECKED_HEADERS = methodcaller("headers")


@dataclass(frozen=True, slots=True)
class Record:
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: Headers
    value: bytes | None
    key: bytes | None = None


@dataclass(slots=True)
class Outgoing:
    """A record to produce; `offset` is known after the flush."""

    topic: str
    value: bytes
    headers: Headers = field(default_factory=list)
    partition: int = -1
    key: bytes | None = None
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Topic:
    topic_id: str
    partitions: int


def committable(topic: str, offsets: Mapping[int, int], topic_id: str | None) -> list[TopicPartition]:
    """Offsets to commit, each with the id of the topic that it belongs to."""
    return [TopicPartition(topic, partition, offset, topic_id or "") for partition, offset in offsets.items()]


def record_of(message: Message) -> Record:
    kind, timestamp_ms = message.timestamp()
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=0 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
        headers=_headers(message),
        value=message.value(),
        key=message.key(),
    )


def _headers(message: Message) -> Headers:
    """librdkafka's headers: a list of pairs, a value may be missing.

    Other clients can write names that are not UTF-8, for which confluent-kafka returns a list with holes and an
    exception set. Called through `methodcaller` Python notices (SystemError); a plain call is specialised after a few
    rounds and hands the holes on, which ends the process. Such a record counts as one without headers.
    """
    try:
        raw: Any = _CHECKED_HEADERS(message)
    except (UnicodeDecodeError, SystemError):
        return []
    return [(name, value or b"") for name, value in raw or []]
