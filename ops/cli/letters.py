"""Dead letters as the commands read them: which, from when on, and which uploads they are about."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from ops.cli.errors import CommandError
from ops.cli.replay import Place, fetch, records_from
from schemas.cloudevents import DEAD_LETTER_TYPE
from schemas.events import DeadLetter
from stream.config import Settings
from stream.kafka import Admin, Record

READ_AT_ONCE = 1_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_AGO = re.compile(r"([0-9]{1,9})([smhd])")
# Kafka takes times of 63 bits; these are the datetimes that can be shown.
_MOMENT_MAX_S = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters; None takes all. Times are those of the dead letters, in ms since the epoch."""

    reasons: frozenset[str] | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    tenant: str | None = None

    @property
    def none(self) -> bool:
        return self == Filters()

    def take(self, letter: Letter) -> bool:
        return (
            (self.reasons is None or letter.event.reason in self.reasons)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms <= self.until_ms)
            and (self.tenant is None or letter.event.tenant == self.tenant)
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and where it lies itself."""

    partition: int
    offset: int
    timestamp_ms: int
    event: DeadLetter

    @property
    def original(self) -> Place:
        source = self.event.source
        return Place(self.event.source_topic, source.partition, source.offset)

    def json_line(self) -> str:
        """ASCII only: much of it comes from outside."""
        own = {"partition": self.partition, "offset": self.offset, "timestamp_ms": self.timestamp_ms}
        return json.dumps({**own, **self.event.model_dump(mode="json")})


def letters(settings: Settings, filters: Filters) -> Iterator[Letter]:
    """The dead letters that pass, partition by partition; from `since_ms` on nothing older is read.

    Raises:
        BrokerUnavailable, TopicMissing, NotPermitted, CommandError: not all was read.
    """
    topic = settings.topics.deadletters
    admin = Admin(settings)
    partitions = range(admin.partition_counts([topic])[topic])
    starts: dict[int, int] = dict.fromkeys(partitions, 0)
    if filters.since_ms is not None:
        first = admin.offsets_at(topic, partitions, filters.since_ms)
        starts = {partition: offset for partition, offset in first.items() if offset is not None}
    for record in records_from(settings, topic, starts, READ_AT_ONCE):
        letter = letter_of(record)
        if letter is not None and filters.take(letter):
            yield letter


def letter_at(settings: Settings, partition: int, offset: int) -> Letter:
    """The dead letter at a place.

    Raises:
        CommandError: there is none.
        BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    topic = settings.topics.deadletters
    partitions = Admin(settings).partition_counts([topic])[topic]
    if partition >= partitions:
        raise CommandError(f"{topic} has {partitions} partitions, the last is {partitions - 1}")
    letter = letter_of(fetch(settings, topic, partition, offset))
    if letter is None:
        raise CommandError(f"{topic} {partition} {offset} is no dead letter of dejaview")
    return letter


def letter_of(record: Record) -> Letter | None:
    """The dead letter in a record; None when it is something else: the topic may hold verdicts, too."""
    if dict(record.headers).get("ce_type") != DEAD_LETTER_TYPE.encode():
        return None
    try:
        event = DeadLetter.model_validate_json(record.value or b"")
    except ValidationError:
        return None
    return Letter(record.partition, record.offset, record.timestamp_ms, event)


class Plan:
    """Which uploads are to be sent again: each once, and none that is no upload or another one by now."""

    def __init__(self, uploads: str, topic_id: str, found: Iterable[Letter]) -> None:
        """Sort out the originals.

        Args:
            uploads: the topic they must be on, `topic_id` its id now.
            found: dead letters.
        """
        self.letters = 0
        self.oldest_ms = 0
        # Per original the tenants that its dead letters name; None where the upload's could not be read.
        self.originals: dict[Place, set[str | None]] = {}
        self.elsewhere: Counter[str] = Counter()
        self.recreated: set[Place] = set()
        self.done: dict[Place, Place] = {}
        for letter in found:
            self._add(letter, uploads, topic_id)

    def leave_out(self, copies: Mapping[Place, Mapping[str, Place]]) -> None:
        """Take out what has a copy already (`replayed_since`). One in another tenant's name is no copy."""
        for place, tenants in list(self.originals.items()):
            of_tenants = copies.get(place, {})
            for tenant, copy in of_tenants.items():
                if None in tenants or tenant in tenants:
                    self.done[place] = copy
                    self.originals.pop(place, None)

    def _add(self, letter: Letter, uploads: str, topic_id: str) -> None:
        self.letters += 1
        if letter.event.source_topic != uploads:
            self.elsewhere[letter.event.source_topic] += 1
        elif letter.event.source.topic_id != topic_id:
            self.recreated.add(letter.original)
        else:
            self.oldest_ms = min(self.oldest_ms or letter.timestamp_ms, letter.timestamp_ms)
            self.originals.setdefault(letter.original, set()).add(letter.event.tenant)


def moment(text: str) -> int:
    """`2h` ago, or ISO 8601, in ms since the epoch. For argparse."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(0, int(time.time() - int(ago[1]) * _UNITS_S[ago[2]]) * 1000)
    try:
        # Without a zone it is local time.
        seconds = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= _MOMENT_MAX_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: ISO 8601 (2026-11-21T08:00:00Z), or 90s, 15m, 2h, 7d")
    return int(seconds * 1000)


def local_time(epoch_ms: int) -> str:
    """For reading, with the zone: `2026-11-21 08:00:00+00:00`. Whatever a record's timestamp says."""
    try:
        return datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{epoch_ms} ms"


def escaped(text: str) -> str:
    """Text from outside with what could steer a terminal written out, so that it can be read: `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
