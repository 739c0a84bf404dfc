"""`dejaview replay`: an upload's record, sent again. Dead letters carry this command; `deadletters replay` uses it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ops.cli.errors import CommandError
from ops.cli.numbers import number
from ops.cli.settings import add_settings_options, load_settings
from schemas.cloudevents import raw_tenant
from stream.config import Settings
from stream.kafka import Admin, LogProducer, LogReader, Outgoing, Record

REPLAY_HEADER = "dejaview_replay_of"
# A copy's time is that of the machine it was sent from, whose clock may be behind the brokers'.
CLOCKS_APART_MAX_MS = 5 * 60 * 1000
# What may be unacknowledged at any time.
IN_FLIGHT_BYTES_MAX = 16_000_000
IN_FLIGHT_RECORDS_MAX = 100
# Records of up to 20 MB each.
SCANNED_AT_ONCE = 20
_HEADER_BYTES = 512


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic} {self.partition} {self.offset}"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one original: its copy's place, or why there is none."""

    original: Place
    copy: Place | None
    why: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `replay`."""
    parser = subparsers.add_parser(
        "replay",
        help="send an upload's record again",
        description="Reads one record and sends it again to topics.uploads, unchanged. A dead letter's field `replay` "
        "is this command for the record it is about. `dejaview deadletters replay` sends many, each once.",
    )
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("partition", type=number, metavar="PARTITION")
    parser.add_argument("offset", type=number, metavar="OFFSET")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Send one record again.

    Raises:
        CommandError: there is no such record, or no more.
        BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    uploads = settings.topics.uploads
    partitions = Admin(settings).partition_counts([args.topic, uploads])[args.topic]
    if args.partition >= partitions:
        raise CommandError(f"{args.topic} has {partitions} partitions, the last is {partitions - 1}")
    copy = replayed(fetch(settings, args.topic, args.partition, args.offset), uploads)
    producer = LogProducer(settings)
    producer.produce([copy])
    producer.flush()
    print(f"{args.topic} {args.partition} {args.offset} was sent again: {uploads} {copy.partition} {copy.offset}")
    return 0


def fetch(settings: Settings, topic: str, partition: int, offset: int) -> Record:
    """The record at this place.

    Raises:
        CommandError: there is none.
        BrokerUnavailable: it was not read in time.
    """
    reader = LogReader(settings, topic)
    try:
        return fetch_from(reader, Place(topic, partition, offset), settings.kafka.request_timeout_s)
    finally:
        reader.close()


def fetch_from(reader: LogReader, place: Place, timeout_s: float) -> Record:
    """The record at this place, by a reader of its topic.

    Raises:
        CommandError: there is none.
        BrokerUnavailable: it was not read in time.
    """
    low, high = reader.ends(place.partition)
    if place.offset < low:
        raise CommandError(f"{place}: retention has deleted this record; the first that is left is {low}")
    if place.offset >= high:
        raise CommandError(f"{place}: there is no such record yet; the partition ends before {high}")
    reader.start(place.partition, place.offset)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found, end = reader.read(1, 0.5)
        if found and found[0].offset < place.offset:
            continue
        if found and found[0].offset == place.offset:
            return found[0]
        if found or end is not None:
            raise CommandError(f"{place}: no record is there (it was compacted away, aborted, or is a marker)")
    raise CommandError(f"{place}: not read in {timeout_s:g} s (kafka.request_timeout_s)")


def records_from(settings: Settings, topic: str, starts: Mapping[int, int], at_once: int) -> Iterator[Record]:
    """The committed records of some partitions, from an offset of each to the end as it is now.

    Args:
        starts: partition -> first offset.
        at_once: records in memory at most, of a topic of large ones a few.

    Raises:
        CommandError: nothing came within `kafka.request_timeout_s`.
        BrokerUnavailable: the end is not known.
    """
    reader = LogReader(settings, topic)
    try:
        for partition, first in starts.items():
            yield from _partition_from(reader, partition, first, settings.kafka.request_timeout_s, at_once)
    finally:
        reader.close()


def _partition_from(reader: LogReader, partition: int, first: int, timeout_s: float, at_once: int) -> Iterator[Record]:
    low, high = reader.ends(partition)
    position = max(low, first)
    if position >= high:
        return
    reader.start(partition, position)
    deadline = time.monotonic() + timeout_s
    while position < high:
        records, end = reader.read(at_once, 0.2)
        for record in records:
            position = record.offset + 1
            deadline = time.monotonic() + timeout_s
            if record.offset < high:
                yield record
        if end is not None:
            break
        if time.monotonic() > deadline:
            raise CommandError(f"partition {partition} was not read on from {position} in {timeout_s:g} s")


def replayed(record: Record, uploads: str) -> Outgoing:
    """The same event, and where it came from; a replay of a replay names its own source only."""
    headers = [(name, value) for name, value in record.headers if name != REPLAY_HEADER]
    origin = f"{record.topic} {record.partition} {record.offset}"
    return Outgoing(uploads, record.value or b"", [*headers, (REPLAY_HEADER, origin.encode())], key=record.key)


def replayed_since(settings: Settings, since_ms: int) -> dict[Place, dict[str, Place]]:
    """Original -> tenant -> its latest copy on topics.uploads, of the copies that were sent since a time.

    A little before that, too, as clocks are apart. By tenant: anybody who may send uploads may send the header.

    Reads the uploads of that time, pictures and all: there is no index of headers.

    Raises:
        BrokerUnavailable, CommandError: not all was read.
    """
    uploads = settings.topics.uploads
    admin = Admin(settings)
    partitions = range(admin.partition_counts([uploads])[uploads])
    first = admin.offsets_at(uploads, partitions, max(0, since_ms - CLOCKS_APART_MAX_MS))
    starts = {partition: offset for partition, offset in first.items() if offset is not None}
    found: dict[Place, dict[str, Place]] = {}
    for record in records_from(settings, uploads, starts, SCANNED_AT_ONCE):
        original = origin_of(record)
        if original is not None:
            tenant = (raw_tenant(record.headers, record.value) or b"").decode("utf-8", "replace")
            found.setdefault(original, {})[tenant] = Place(record.topic, record.partition, record.offset)
    return found


def origin_of(record: Record) -> Place | None:
    """The original that a copy names, None for other records. Anyone may send the header: what is no place is none."""
    values = [value for name, value in record.headers if name == REPLAY_HEADER]
    parts = values[-1].decode("utf-8", "replace").split(" ") if values else []
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts[1:]):  # noqa: PLR2004
        return None
    return Place(parts[0], int(parts[1]), int(parts[2]))


def send_again(settings: Settings, originals: Iterable[Place]) -> Iterator[Sent]:
    """Send originals of topics.uploads again; each is given out once its copy is on the broker, or cannot be.

    Raises:
        BrokerUnavailable, NotPermitted: those not given out yet may or may not be on the topic; a later scan tells.
    """
    uploads, timeout_s = settings.topics.uploads, settings.kafka.request_timeout_s
    producer, reader = LogProducer(settings), LogReader(settings, uploads)
    waiting: list[tuple[Place, Outgoing]] = []
    waiting_bytes = 0
    try:
        for original in originals:
            try:
                copy = replayed(fetch_from(reader, original, timeout_s), uploads)
            except CommandError as error:
                yield Sent(original, None, str(error))
                continue
            if _bytes(copy) > settings.topics.message_bytes_max:
                yield Sent(original, None, f"{original}: with its header above topics.message_bytes_max")
                continue
            producer.produce([copy])
            waiting.append((original, copy))
            waiting_bytes += len(copy.value)
            if len(waiting) >= IN_FLIGHT_RECORDS_MAX or waiting_bytes >= IN_FLIGHT_BYTES_MAX:
                yield from _arrived(producer, waiting)
                waiting, waiting_bytes = [], 0
        yield from _arrived(producer, waiting)
    finally:
        reader.close()


def _arrived(producer: LogProducer, waiting: Iterable[tuple[Place, Outgoing]]) -> Iterator[Sent]:
    producer.flush()
    for original, copy in waiting:
        yield Sent(original, Place(copy.topic, copy.partition, copy.offset))


def _bytes(copy: Outgoing) -> int:
    """About what the broker counts."""
    headers = sum(len(name) + len(value) + 8 for name, value in copy.headers)
    return len(copy.value) + len(copy.key or b"") + headers + _HEADER_BYTES
