"""`dejaview replay`: an upload's record, sent again. Dead letters carry this command."""

from __future__ import annotations

import argparse
import time

from ops.cli.errors import CommandError
from ops.cli.settings import add_settings_options, load_settings
from stream.config import Settings
from stream.kafka import Admin, LogProducer, LogReader, Outgoing, Record

REPLAY_HEADER = "dejaview_replay_of"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `replay`."""
    parser = subparsers.add_parser(
        "replay",
        help="send an upload's record again",
        description="Reads one record and sends it again to topics.uploads, unchanged. A dead letter's field `replay` "
        "is this command for the record it is about.",
    )
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("partition", type=_number, metavar="PARTITION")
    parser.add_argument("offset", type=_number, metavar="OFFSET")
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
    place = f"{topic} {partition} {offset}"
    reader = LogReader(settings, topic)
    try:
        low, high = reader.ends(partition)
        if offset < low:
            raise CommandError(f"{place}: retention has deleted this record; the first that is left is {low}")
        if offset >= high:
            raise CommandError(f"{place}: there is no such record yet; the partition ends before {high}")
        reader.start(partition, offset)
        deadline = time.monotonic() + settings.kafka.request_timeout_s
        while time.monotonic() < deadline:
            found, end = reader.read(1, 0.5)
            if found and found[0].offset == offset:
                return found[0]
            if found or end is not None:
                raise CommandError(f"{place}: no record is there (it was compacted away, aborted, or is a marker)")
    finally:
        reader.close()
    raise CommandError(f"{place}: not read in {settings.kafka.request_timeout_s:g} s (kafka.request_timeout_s)")


def replayed(record: Record, uploads: str) -> Outgoing:
    """The same event, and where it came from; a replay of a replay names its own source only."""
    headers = [(name, value) for name, value in record.headers if name != REPLAY_HEADER]
    origin = f"{record.topic} {record.partition} {record.offset}"
    return Outgoing(uploads, record.value or b"", [*headers, (REPLAY_HEADER, origin.encode())], key=record.key)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)
