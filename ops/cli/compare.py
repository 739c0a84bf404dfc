"""`dejaview compare`: where two deployments answer the same uploads differently, with pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.cli.display import plain, show_table
from ops.cli.errors import CommandError
from ops.cli.numbers import number
from ops.cli.replay import records_from
from ops.cli.settings import add_settings_options, load_settings
from stream.config import Settings
from stream.errors import SettingError
from stream.kafka import Admin, Record

if TYPE_CHECKING:
    from ops.compare.flips import Comparison, Flip, Judged, Key

SHOWN = 200
LINES = 20
READ_AT_ONCE = 2_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="where two deployments answer the same uploads differently",
        description="Reads all verdicts of the deployment of --config (the old one) and of --with (the new one), "
        "those of backfills included, and pairs them by tenant and upload id. Changes nothing.",
    )
    parser.add_argument(
        "--with", dest="other", type=Path, required=True, metavar="FILE", help="settings of the new deployment"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table and all flips")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures of the surest flips")
    parser.add_argument("--shown", type=number, default=SHOWN, metavar="N", help="flips with pictures; %(default)s")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compare; 0 whatever was found.

    Raises:
        SettingError: both name the same verdicts. BrokerUnavailable, TopicMissing, NotPermitted, CommandError.
    """
    from ops.compare.flips import compare, verdicts_of  # noqa: PLC0415 - `page` loads Pillow and numpy
    from ops.compare.page import summary, table  # noqa: PLC0415

    old_settings = load_settings(args.config, args.flags).settings
    new_settings = load_settings(args.other, []).settings
    _refuse_the_same(old_settings, new_settings)
    old, new = verdicts_of(answers(old_settings)), verdicts_of(answers(new_settings))
    if not old or not new:
        raise CommandError(f"the {'new' if old else 'old'} deployment has no verdicts yet")
    found = compare(old, new)
    print(summary(found))
    show_table(table(found))
    for flip in found.flips[:LINES]:
        print(line(flip))
    if args.json is not None:
        args.json.write_text(json.dumps(as_json(found), indent=1, default=str) + "\n", encoding="utf-8")
    if args.html is not None:
        args.html.write_text(_page(old_settings, found, old, new, args.shown), encoding="utf-8")
    return 0


def answers(settings: Settings) -> Iterator[Record]:
    """All verdicts and backfilled answers of a deployment, to their ends as they are now.

    Raises:
        BrokerUnavailable, NotPermitted, CommandError: not all was read.
    """
    topics = settings.topics
    for topic, count in Admin(settings).existing([*topics.verdicts, topics.backfilled]).items():
        yield from records_from(settings, topic, dict.fromkeys(range(count), 0), READ_AT_ONCE)


def line(flip: Flip) -> str:
    """A flip for people."""
    told = [f"{one.kind}{f' of {one.match}' if one.match else ''} ({one.score})" for one in (flip.old, flip.new)]
    return plain(f"  {flip.tenant} {flip.upload_id}: {told[0]} -> {told[1]}")


def as_json(found: Comparison) -> dict[str, Any]:
    """The table as a list, and every flip."""
    return {
        "compared": found.compared,
        "table": [{"old": old, "new": new, "uploads": count} for (old, new), count in sorted(found.table.items())],
        "flips": [asdict(flip) for flip in found.flips],
        "other_matches": [asdict(flip) for flip in found.other_matches],
        "only_old": found.only_old,
        "only_new": found.only_new,
        "other_bytes": found.other_bytes,
    }


def _refuse_the_same(old: Settings, new: Settings) -> None:
    if (old.kafka.bootstrap_servers, old.topics.verdicts) == (new.kafka.bootstrap_servers, new.topics.verdicts):
        raise SettingError(
            f"both name the verdicts {', '.join(old.topics.verdicts)}: give the new deployment topics of its own, in "
            "its file; DEJAVIEW_TOPICS__… in the environment wins over both files"
        )


def _page(settings: Settings, found: Comparison, old: dict[Key, Judged], new: dict[Key, Judged], shown: int) -> str:
    from ops.compare.page import page  # noqa: PLC0415
    from ops.compare.pictures import Pictures  # noqa: PLC0415

    flips = [*found.flips, *found.other_matches][:shown]
    with Pictures(settings) as pictures:
        return page(found, flips, old, new, pictures.address)
