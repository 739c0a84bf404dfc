"""`dejaview backfill`: an existing library judged and indexed, in order, without a word to those who read verdicts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.cli.display import plain, progress_bar, say
from ops.cli.numbers import count
from ops.cli.pictures import find_pictures
from ops.cli.send import rate_of, tenant_of
from ops.cli.settings import add_settings_options, load_settings
from stream.config import Settings
from stream.kafka import Admin

if TYPE_CHECKING:
    from ops.backfill.answers import Answers
    from ops.backfill.run import Progressed
    from ops.backfill.sources import Item

AHEAD = 1_000
SHOWN_MAX = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `backfill`."""
    parser = subparsers.add_parser(
        "backfill",
        help="judge and index an existing library",
        description="Sends a library through the deployment's own stages: encoded here, judged and indexed by the "
        "workers that run. Verdicts go to topics.backfilled, not to the topics that users read; `dejaview send` is for "
        "those. Run it again after an interruption: what has a verdict is left out.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="pictures, in the order of their names")
    source.add_argument(
        "--addresses", type=Path, metavar="FILE", help="a line each: address, or upload id, tab, address"
    )
    source.add_argument("--topic", metavar="TOPIC", help="upload events as topics.uploads holds them")
    parser.add_argument(
        "--tenant", type=tenant_of, default="default", metavar="T", help="of folder and addresses; default: %(default)s"
    )
    parser.add_argument("--rate", type=rate_of, metavar="N", help="uploads a second at most")
    parser.add_argument(
        "--ahead", type=count, default=AHEAD, metavar="N",
        help="uploads that may wait for their verdict at once; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report: counts, and each duplicate")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Backfill; returns when everything has its answer.

    Raises:
        CommandError, SettingError, BrokerUnavailable, TopicMissing, NotPermitted: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    items = _items(args, settings)
    from ops.backfill.run import Live, backfill, create_topics, judges  # noqa: PLC0415 - it loads OpenVINO

    create_topics(settings)
    if not judges(settings, Admin(settings)):
        say("nobody judges yet: start `dejaview run --stage decide --stage index` with the same settings")
    live = Live(settings, [args.folder.absolute()] if args.folder is not None else [])
    try:
        live.start()
        _show(backfill(items, live.answers, live, args.rate, args.ahead))
    finally:
        live.close()
        print(summary(live.answers))
    if args.json is not None:
        args.json.write_text(json.dumps(report(live.answers), indent=1) + "\n", encoding="utf-8")
    for line in duplicate_lines(live.answers):
        print(line)
    return 0


def _items(args: argparse.Namespace, settings: Settings) -> Iterator[Item]:
    from ops.backfill.sources import from_addresses, from_pictures, from_topic, read_lines  # noqa: PLC0415

    topic = settings.topics.backfill
    if args.folder is not None:
        return from_pictures(find_pictures([args.folder], "name"), args.tenant, topic)
    if args.addresses is not None:
        return from_addresses(read_lines(args.addresses), args.tenant, topic)
    return from_topic(settings, args.topic)


def _show(progressed: Iterator[Progressed]) -> None:
    with progress_bar() as progress:
        bar = progress.add_task("backfill", total=None)
        for now in progressed:
            done = now.sent + now.left_out - now.waiting
            told = f"{now.sent} sent, {now.left_out} had a verdict, {now.waiting} wait"
            progress.update(bar, completed=max(0, done), description=told)


def summary(answers: Answers) -> str:
    """The whole library so far, earlier runs included."""
    kinds = ", ".join(f"{answers.kinds[kind]} {kind}" for kind in ("unique", "duplicate", "review"))
    reasons = ", ".join(f"{count} {reason}" for reason, count in answers.reasons.most_common())
    return f"{sum(answers.kinds.values())} uploads judged: {kinds}" + (f"; dead letters: {reasons}" if reasons else "")


def duplicate_lines(answers: Answers) -> Iterator[str]:
    """The first duplicates, and how many more there are."""
    for one in answers.duplicates_in_order()[:SHOWN_MAX]:
        yield plain(f"  {one['verdict']:9}  {one['upload_id']}  of {one['of']}  score {one['score']}")
    left = len(answers.duplicates) - SHOWN_MAX
    if left > 0:
        yield f"  {left} more; --json FILE has all"


def report(answers: Answers) -> dict[str, Any]:
    """Counts by verdict and by dead letter's reason, and what is a copy of what."""
    return {
        "verdicts": dict(answers.kinds),
        "dead_letters": dict(answers.reasons),
        "duplicates": answers.duplicates_in_order(),
    }
