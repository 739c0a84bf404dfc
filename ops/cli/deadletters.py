"""`dejaview deadletters`: list them, show one, send their uploads again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from heapq import heappush, heappushpop

from rich.table import Table

from ops.cli.display import cell, console
from ops.cli.errors import CommandError
from ops.cli.letters import Filters, Letter, Plan, escaped, letter_at, letters, local_time, moment
from ops.cli.numbers import number
from ops.cli.replay import fetch, replayed_since, send_again
from ops.cli.settings import add_settings_options, load_settings
from schemas.events import Reason
from stream.config import Settings
from stream.errors import TopicMissing
from stream.kafka import Admin, Record

LIMIT_DEFAULT = 1_000
# Of a few kilobytes each.
LIMIT_MAX = 100_000
EXIT_WRONG = 2
REHEARSED, SENT, FAILED = "would be sent again", "sent again", "could not be"
_DETAIL_CHARS = 80
_HEADER_CHARS = 200
_HEADERS_MAX = 50
_PLACE_PARTS = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `deadletters`."""
    parser = subparsers.add_parser(
        "deadletters",
        help="list, show and replay dead letters",
        description="TIME is ISO 8601 (2026-11-21T08:00:00Z; without a zone it is this machine's) or so long ago: "
        "90s, 15m, 2h, 7d.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|replay")
    one = actions.add_parser("list", help="the latest, and how many of each reason there are")
    _add_filters(one)
    one.add_argument("--limit", type=_limit, default=LIMIT_DEFAULT, metavar="N", help="default: %(default)s")
    one.add_argument("--json", action="store_true", help="dead letters as JSON lines; counts go to stderr")
    one.set_defaults(func=run_list)
    add_settings_options(one)
    one = actions.add_parser("show", help="everything about one, and whether its upload is still there")
    one.add_argument("partition", type=number, metavar="PARTITION", help="of the dead letter itself, as `list` says")
    one.add_argument("offset", type=number, metavar="OFFSET")
    one.set_defaults(func=run_show)
    add_settings_options(one)
    one = actions.add_parser(
        "replay",
        help="send their uploads again, each once",
        description="Sends the uploads of dead letters again, unchanged. Reads topics.uploads first, from the time of "
        "the oldest dead letter on, and leaves out what was sent again before: running it twice sends nothing twice. "
        "Two at the same time know nothing of each other. Exits with 1 when an upload is no longer there.",
    )
    one.add_argument("place", type=number, nargs="*", metavar="PARTITION OFFSET", help="of one dead letter")
    _add_filters(one)
    one.add_argument("--all", action="store_true", help="all dead letters there are")
    one.add_argument("--again", action="store_true", help="also what was sent again before")
    one.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    one.set_defaults(func=run_replay)
    add_settings_options(one)


def run_list(args: argparse.Namespace) -> int:
    """The latest dead letters in the order of their time, and all counted by reason.

    Raises:
        BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    counts: Counter[str] = Counter()
    latest: list[tuple[int, int, int, Letter]] = []
    for letter in letters(settings, _filters(args)):
        counts[letter.event.reason] += 1
        entry = (letter.timestamp_ms, letter.partition, letter.offset, letter)
        (heappush if len(latest) < args.limit else heappushpop)(latest, entry)
    shown = [letter for *_, letter in sorted(latest, key=lambda entry: entry[:3])]
    if args.json:
        for letter in shown:
            print(letter.json_line())
    elif shown:
        console().print(_table(shown))
    said = ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "none"
    left = f" (the latest {len(shown)} shown; --limit)" if len(shown) < counts.total() else ""
    print(f"{counts.total()} dead letters{left}: {said}", file=sys.stderr if args.json else sys.stdout)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """One dead letter, and its upload's headers; never the upload's bytes.

    Raises:
        CommandError: there is no dead letter at this place.
    """
    settings = load_settings(args.config, args.flags).settings
    letter = letter_at(settings, args.partition, args.offset)
    event = letter.event
    lines = {
        "dead letter": f"{settings.topics.deadletters} {letter.partition} {letter.offset}",
        "time": local_time(letter.timestamp_ms),
        "reason": event.reason,
        "detail": event.detail,
        "tenant": event.tenant or "(none)",
        "upload id": event.upload_id or "(none)",
        "upload's time": local_time(event.upload_timestamp_ms),
        "replay": event.replay,
        "original": f"{event.source_topic} {event.source.partition} {event.source.offset}",
        "topic id": event.source.topic_id,
    }
    for name, text in lines.items():
        print(f"{name:14} {escaped(text)}")
    for name, text in event.headers.items():
        print(f"{'  it kept':14} {escaped(name)}: {escaped(text)}")
    try:
        record = original(settings, letter)
    except CommandError as error:
        print(f"{'original is':14} gone: {escaped(str(error))}")
        return 0
    print(f"{'original is':14} still there, {len(record.value or b'')} bytes; its headers:")
    for name, value in record.headers[:_HEADERS_MAX]:
        text = value[:_HEADER_CHARS].decode("utf-8", "backslashreplace")
        cut = f" … ({len(value)} bytes)" if len(value) > _HEADER_CHARS else ""
        print(f"{'':14} {escaped(name[:_HEADER_CHARS])}: {escaped(text)}{cut}")
    if len(record.headers) > _HEADERS_MAX:
        print(f"{'':14} … and {len(record.headers) - _HEADERS_MAX} more")
    return 0


def run_replay(args: argparse.Namespace) -> int:
    """Send the uploads of dead letters again; 1 when one of them could not be.

    Raises:
        BrokerUnavailable, TopicMissing, NotPermitted: with what to do; what was not sent yet is by the next run.
    """
    filters = _filters(args)
    wrong = _contradiction(args, filters)
    if wrong:
        print(f"dejaview: {wrong}", file=sys.stderr)
        return EXIT_WRONG
    settings = load_settings(args.config, args.flags).settings
    uploads = settings.topics.uploads
    topic_id = Admin(settings).topics([uploads])[uploads].topic_id
    plan = Plan(uploads, topic_id, [letter_at(settings, *args.place)] if args.place else letters(settings, filters))
    if plan.originals and not args.again:
        print("Reading which uploads were sent again before …", file=sys.stderr)
        plan.leave_out(replayed_since(settings, plan.oldest_ms))
    for place in sorted(plan.recreated):
        print(f"{place}: gone, the topic was created anew since")
    outcomes = _rehearse(plan) if args.dry_run else _send(settings, plan)
    print(_summary(plan, outcomes))
    return 1 if outcomes[FAILED] or plan.recreated or (args.place and plan.elsewhere) else 0


def original(settings: Settings, letter: Letter) -> Record:
    """The record a dead letter is about.

    Raises:
        CommandError: it is gone, or another record lies there by now.
    """
    place = letter.original
    try:
        topic = Admin(settings).topics([place.topic])[place.topic]
    except TopicMissing:
        raise CommandError(f"there is no topic {place.topic}") from None
    if topic.topic_id != letter.event.source.topic_id:
        raise CommandError(f"{place.topic} was created anew since")
    return fetch(settings, place.topic, place.partition, place.offset)


def _rehearse(plan: Plan) -> Counter[str]:
    for place in sorted(plan.originals):
        print(f"{place} would be sent again")
    return Counter({REHEARSED: len(plan.originals)})


def _send(settings: Settings, plan: Plan) -> Counter[str]:
    outcomes: Counter[str] = Counter({SENT: 0})
    for one in send_again(settings, sorted(plan.originals)):
        outcomes[FAILED if one.copy is None else SENT] += 1
        print(one.why or f"{one.original} was sent again: {one.copy}", flush=True)
    return outcomes


def _summary(plan: Plan, outcomes: Counter[str]) -> str:
    parts = [f"{outcomes[done]} {done}" for done in (REHEARSED, SENT) if done in outcomes]
    if plan.done:
        parts.append(f"{len(plan.done)} had been sent again before (--again sends them once more)")
    if outcomes[FAILED] or plan.recreated:
        parts.append(f"{outcomes[FAILED] + len(plan.recreated)} {FAILED}")
    for topic, count in plan.elsewhere.items():
        parts.append(f"{count} left out, about records of {escaped(topic)}, which are no uploads")
    return f"{plan.letters} dead letters: {'; '.join(parts)}"


def _contradiction(args: argparse.Namespace, filters: Filters) -> str:
    """What is wrong with a `replay` command line; empty when nothing is."""
    if len(args.place) not in (0, _PLACE_PARTS):
        return "a dead letter's place is PARTITION OFFSET"
    if args.place and (args.all or not filters.none):
        return "give PARTITION OFFSET, or filters, or --all"
    if args.all and not filters.none:
        return "--all takes no filters"
    if not args.place and not args.all and filters.none:
        return "which dead letters? Give PARTITION OFFSET, a filter (--reason, --since, --until, --tenant), or --all"
    return ""


def _add_filters(parser: argparse.ArgumentParser) -> None:
    reasons = [str(reason) for reason in Reason]
    parser.add_argument(
        "--reason", action="append", choices=reasons, metavar="R", help=f"repeatable: {', '.join(reasons)}"
    )
    parser.add_argument("--since", type=moment, metavar="TIME", help="from then on")
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to then")
    parser.add_argument("--tenant", metavar="T", help="of this tenant only")


def _filters(args: argparse.Namespace) -> Filters:
    return Filters(frozenset(args.reason) if args.reason else None, args.since, args.until, args.tenant)


def _table(shown: Sequence[Letter]) -> Table:
    table = Table("time", "place", "reason", "tenant", "upload", "original", "detail", box=None, pad_edge=False)
    for letter in shown:
        event = letter.event
        detail = event.detail if len(event.detail) <= _DETAIL_CHARS else f"{event.detail[: _DETAIL_CHARS - 1]}…"
        table.add_row(
            cell(local_time(letter.timestamp_ms)),
            cell(f"{letter.partition} {letter.offset}"),
            cell(str(event.reason)),
            cell(event.tenant),
            cell(event.upload_id),
            cell(str(letter.original)),
            cell(detail),
        )
    for column in table.columns:
        column.overflow = "fold"
    return table


def _limit(text: str) -> int:
    found = number(text)
    if not 1 <= found <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {LIMIT_MAX}")
    return found
