"""`dejaview watch`: verdicts and dead letters as they come."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Generator

from ops.cli.numbers import count
from ops.cli.settings import add_settings_options, load_settings
from ops.cli.views import JsonLines, LiveTable, PlainLines, View
from ops.cli.watched import Watched, watched_of
from stream.config import Settings
from stream.kafka import Admin, Follower

log = logging.getLogger("dejaview.watch")

RECORDS_AT_ONCE = 200
WAIT_S = 0.2
EXIT_TOO_FEW = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `watch`."""
    parser = subparsers.add_parser(
        "watch",
        help="follow verdicts and dead letters",
        description="Follows verdicts and dead letters until Ctrl-C. Order holds within a partition only.",
    )
    parser.add_argument("--json", action="store_true", help='events as JSON lines, "kind" verdict or dead_letter')
    parser.add_argument("--from-start", action="store_true", help="from the first that is kept, not from now on")
    parser.add_argument("--count", type=count, metavar="N", help="stop after N; exits with 1 if --timeout comes first")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="stop after S seconds")
    parser.add_argument("--tenant", metavar="T", help="of this tenant only")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Follow until the count, the time-out or Ctrl-C.

    Raises:
        BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    view: View = JsonLines() if args.json else LiveTable() if sys.stdout.isatty() else PlainLines()
    shown = 0
    with view:
        for event in follow(settings, from_start=args.from_start, timeout_s=args.timeout):
            if event is None:
                view.turn()
                continue
            if args.tenant is not None and event.tenant != args.tenant:
                continue
            view.show(event)
            shown += 1
            if shown == args.count:
                return 0
    return EXIT_TOO_FEW if args.count is not None else 0


def follow(
    settings: Settings, *, from_start: bool, timeout_s: float | None, clock: Callable[[], float] = time.time
) -> Generator[Watched | None]:
    """Events in the order they arrive, and a None after each turn."""
    topics = settings.topics
    counts = Admin(settings).partition_counts([*topics.verdicts, topics.deadletters])
    started = clock()
    follower = Follower(settings, counts, from_start=from_start)
    try:
        while timeout_s is None or clock() < started + timeout_s:
            for record in follower.read(RECORDS_AT_ONCE, WAIT_S):
                # What was there before was not waited for: its latency ended when it was written.
                seen_ms = int(clock() * 1000) if record.timestamp_ms >= started * 1000 else record.timestamp_ms
                event = watched_of(record, seen_ms)
                if event is None:
                    log.warning("%s %s %s is no event of dejaview", record.topic, record.partition, record.offset)
                else:
                    yield event
            yield None
    finally:
        follower.close()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return seconds
