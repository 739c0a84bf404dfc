"""`dejaview bench`: how fast it is here, each figure beside its limit or its peer of the same run."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.evaluation.table import markdown
from ops.cli.display import command_line, say, show_table
from stream.errors import SettingError

if TYPE_CHECKING:
    from ops.bench.result import Part, Report

PARTS = ("decode", "encode", "decide", "index", "latency")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `bench`."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed, cost and latency here, beside the bare loop",
        description="Starts Kafka and Milvus of its own on this machine where a part needs them. Leave the machine "
        "alone meanwhile. Needs the extra `bench`.",
    )
    parser.add_argument("part", nargs="?", default="all", choices=("all", *PARTS), help="default: all")
    parser.add_argument(
        "--photos", type=Path, nargs="+", default=[], metavar="PHOTOS", help="folders or tar files; default: drawn ones"
    )
    parser.add_argument("--uploads", type=_positive, default=3_000, help="pictures end to end; default: %(default)s")
    parser.add_argument(
        "--fingerprints", type=_positive, default=20_000, help="records for decide and index; default: %(default)s"
    )
    parser.add_argument(
        "--rows",
        type=_sizes,
        default=(10_000, 100_000),
        metavar="N,…",
        help="sizes of the index; default: 10000,100000",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load and batch size; default: %(default)g")
    parser.add_argument(
        "--peer", action="store_true", help="encode with imagededup, too: installs 5 GB into an environment of its own"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure.

    Raises:
        SettingError: no photos, or the extra `bench` is not installed.
    """
    try:
        from ops.bench.result import Report  # noqa: PLC0415 - of the extra `bench`
        from ops.bench.run import measure  # noqa: PLC0415
    except ImportError as error:
        raise SettingError(f"the benchmark needs the extra `bench` ({error}): pip install 'dejaview[bench]'") from error
    parts: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="dejaview-bench-") as folder:
        for part in measure(args, PARTS if args.part == "all" else (args.part,), Path(folder), say):
            parts.append(part)
            show_table(part.table)
    _write(args, Report(command_line(), parts))
    return 0


def _write(args: argparse.Namespace, report: Report) -> None:
    from ops.bench.page import html  # noqa: PLC0415 - the annotations' module needs the extra

    print(f"{report.at}; {report.machine}")
    if args.json:
        args.json.write_text(report.to_json(), encoding="utf-8")
    if args.markdown:
        lines = [f"{report.at}; {report.machine}."]
        args.markdown.write_text(
            markdown(lines, [part.table for part in report.parts], report.command), encoding="utf-8"
        )
    if args.html:
        args.html.write_text(html(report), encoding="utf-8")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _sizes(text: str) -> Sequence[int]:
    try:
        return tuple(_positive(size) for size in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers of rows, such as 10000,100000") from error
