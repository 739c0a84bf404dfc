"""`dejaview reindex`: the index built from the ledger beside the one in use, compared, and switched without a stop."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ops.cli.display import progress_bar, say
from ops.cli.errors import CommandError
from ops.cli.numbers import number
from ops.cli.settings import add_settings_options, load_settings
from stream.config import Settings
from stream.errors import SettingError

if TYPE_CHECKING:
    from ops.reindex.build import Builder
    from ops.reindex.compare import Standing
    from stream.neighbours.milvus.copies import MilvusCopies

EXIT_REFUSED = 1
AGREEMENT_MIN = 0.99
QUESTIONS = 1_000
# A graph over millions of rows takes its time; it is built by Milvus whether this waits for it or not.
SETTLE_TIMEOUT_S = 3_600.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `reindex`."""
    parser = subparsers.add_parser(
        "reindex",
        help="rebuild the index from the ledger beside the one in use, compare, switch",
        description="Builds a copy of the index from the ledger, holds it against the ledger, and lets all workers use "
        "it; they go on meanwhile, and the one that was in use stays until --drop. Run it again after an interruption: "
        "it goes on. Exits with 1 when the copy is not good enough to switch to.",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--no-switch", action="store_true", help="build and compare only")
    action.add_argument("--list", action="store_true", help="the copies there are, and the one in use")
    action.add_argument(
        "--use", type=number, metavar="N", help="switch to a copy as it is; INDEX goes on where it ends"
    )
    action.add_argument("--drop", type=number, metavar="N", help="drop a copy that is not in use")
    parser.add_argument(
        "--questions",
        type=number,
        default=QUESTIONS,
        metavar="N",
        help="rows compared by their neighbours; %(default)s",
    )
    parser.add_argument(
        "--agreement-min", type=_share, default=AGREEMENT_MIN, metavar="SHARE",
        help="of the verdicts that exact search gives, or what the index in use reaches; %(default)s",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="what was found as JSON")
    add_settings_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Rebuild, or what was asked for.

    Raises:
        SettingError: Milvus Lite. CommandError: no such copy, or it is in use.
        IndexUnavailable, BrokerUnavailable, NotPermitted, StageStopped: with what to do.
    """
    settings = load_settings(args.config, args.flags).settings
    if settings.index.embedded:
        raise SettingError("index.uri is Milvus Lite (.db), which is used by one process: delete the file instead")
    from models.model import load_model  # noqa: PLC0415 - it loads OpenVINO, and pymilvus below
    from stream.neighbours.milvus.copies import MilvusCopies  # noqa: PLC0415

    copies = MilvusCopies(settings.index, load_model(settings.model.weights).model_id)
    try:
        if args.list:
            return _list(copies)
        if args.use is not None:
            return _use(copies, args.use)
        if args.drop is not None:
            return _drop(copies, args.drop)
        return _rebuild(args, settings, copies)
    finally:
        copies.close()


def _rebuild(args: argparse.Namespace, settings: Settings, copies: MilvusCopies) -> int:
    from ops.reindex.build import Builder  # noqa: PLC0415

    copy = target(copies.copies(), copies.in_use())
    builder = Builder(settings, copy)
    say(f"building copy {copy}, {builder.index.collection}")
    try:
        _build(builder)
        new, old = _compare(args, settings, copies, builder)
        _refuse_another_type(settings, copies)
    finally:
        builder.close()
    return _conclude(args, copies, copy, new, old)


def target(existing: dict[int, str], in_use: int | None) -> int:
    """The copy to build: one that was begun and is not in use, else the next number."""
    begun = [copy for copy in existing if copy > (in_use or 0)]
    return max(begun, default=max(existing, default=0) + 1)


def _build(builder: Builder) -> None:
    with progress_bar() as progress:
        bar = progress.add_task("indexing", total=None)
        for found in builder.build():
            progress.update(bar, completed=found.done, total=found.total)
    say("waiting for Milvus to index it")
    builder.index.settle(SETTLE_TIMEOUT_S)


def _compare(
    args: argparse.Namespace, settings: Settings, copies: MilvusCopies, builder: Builder
) -> tuple[Standing, Standing | None]:
    """The new copy and, where it answers, the index in use against the ledger as far as the new one has it."""
    from ops.reindex.compare import Asked, Standing, compare, unavailable  # noqa: PLC0415

    reach = builder.reach()
    asked = [Asked(Standing(builder.index.collection), builder.index, reach.timestamp)]
    copies.collection = copies.current()
    if not unavailable(copies):
        asked.append(Asked(Standing(copies.collection), copies))
    say(f"comparing with the ledger, {args.questions} questions")
    compare(settings, builder.service.rule_of, asked, reach.ends, args.questions)
    return asked[0].standing, asked[1].standing if len(asked) > 1 else None


def _refuse_another_type(settings: Settings, copies: MilvusCopies) -> None:
    """Workers compare the collection's index type with their own setting, and would stop."""
    in_use = copies.in_use()
    found = copies.index_type(in_use) if in_use is not None else ""
    if found and found != settings.index.index_type:
        raise SettingError(
            f"index.index_type is {settings.index.index_type} here and {found} in the index in use: workers would stop "
            "at the switch. Give all of them a new index.collection instead; INDEX builds it from the ledger"
        )


def _conclude(args: argparse.Namespace, copies: MilvusCopies, copy: int, new: Standing, old: Standing | None) -> int:
    from ops.reindex.compare import refusal  # noqa: PLC0415

    why = refusal(new, old, args.agreement_min)
    if why is None and not args.no_switch:
        copies.switch(copy)
    if args.json:
        print(json.dumps(as_json(copy, new, old, why, switched=why is None and not args.no_switch), indent=1))
    else:
        for standing in filter(None, (old, new)):
            print(line(standing))
    if why is not None:
        print(
            f"copy {copy} is not used: {why}. `dejaview reindex --drop {copy}` and build it anew, or, if it is good "
            f"enough for you, `dejaview reindex --use {copy}`",
            file=sys.stderr,
        )
        return EXIT_REFUSED
    if args.no_switch:
        say(f"`dejaview reindex --use {copy}` switches to it")
    else:
        say(f"switched to copy {copy}: workers move within seconds; --use goes back, --drop removes the old one")
    return 0


def line(standing: Standing) -> str:
    """A standing for people."""
    return (
        f"{standing.name}: {standing.rows - standing.missing} of {standing.rows} rows of the ledger; "
        f"{standing.same} of {standing.questions} verdicts as by exact search; "
        f"{standing.recall:.2%} of the nearest rows found"
    )


def as_json(copy: int, new: Standing, old: Standing | None, why: str | None, *, switched: bool) -> dict[str, Any]:
    """Both standings, and what came of it."""
    return {
        "copy": copy,
        "new": asdict(new),
        "in_use": asdict(old) if old is not None else None,
        "refused": why,
        "switched": switched,
    }


def _list(copies: MilvusCopies) -> int:
    current = copies.current()
    for copy, name in sorted(copies.copies().items()):
        print(f"{copy}  {name}{'  in use' if name == current else ''}")
    return 0


def _use(copies: MilvusCopies, copy: int) -> int:
    _existing(copies, copy)
    copies.switch(copy)
    say(f"switched to copy {copy}: workers move within seconds")
    return 0


def _drop(copies: MilvusCopies, copy: int) -> int:
    name = _existing(copies, copy)
    if copies.current() == name:
        raise CommandError(f"copy {copy} is in use; switch to another one first (--use)")
    copies.drop(copy)
    say(f"dropped {name}")
    return 0


def _existing(copies: MilvusCopies, copy: int) -> str:
    existing = copies.copies()
    if copy not in existing:
        raise CommandError(f"there is no copy {copy}; there are {', '.join(map(str, sorted(existing))) or 'none'}")
    return existing[copy]


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to 1")
    return value
