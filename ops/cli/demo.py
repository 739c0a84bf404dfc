"""`dejaview demo`: the whole of dejaview in one program, over real photographs and edited copies of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.demo.run import Report

PAGE_DEFAULT = Path("dejaview-demo.html")
PHOTOS_DEFAULT = 16
# The embedded broker keeps about 5 MB a partition: the fingerprints of 64 photographs and their copies are about 2.5.
PHOTOS_MAX = 64


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="find edited copies of photographs; needs no Kafka and no Milvus",
        description="Runs all stages in one program, on a broker and an index that live inside it, over photographs "
        "and edited copies of them. Writes a page that shows what was found. Nothing else is left behind.",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="FOLDER", help="your own pictures; default: those inside scikit-image"
    )
    parser.add_argument("--out", type=Path, default=PAGE_DEFAULT, metavar="FILE", help="the page; default: %(default)s")
    parser.add_argument(
        "--photos", type=_photos, default=PHOTOS_DEFAULT, metavar="N",
        help=f"photographs at most, 1 to {PHOTOS_MAX}; default: %(default)s",
    )  # fmt: skip
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 1 when an upload got no answer, whatever was found or missed.

    Raises:
        DejaviewError: it could not run; the message says what to do.
    """
    # Imported here: the other commands need neither pictures nor rich.
    from ops.demo.page import write_page  # noqa: PLC0415
    from ops.demo.run import run_demo  # noqa: PLC0415
    from ops.demo.screen import open_screen  # noqa: PLC0415
    from ops.demo.summary import summary  # noqa: PLC0415

    if not args.out.absolute().parent.is_dir():
        print(f"--out {args.out}: there is no such folder", file=sys.stderr)
        return 2
    with open_screen() as screen:
        report = run_demo(args.folder, args.photos, screen)
    print("\n".join(summary(report)))
    write_page(report, args.out)
    print(f"\nThe page: {args.out.absolute()}")
    return _ended(report)


def _ended(report: Report) -> int:
    if not report.totals.lost:
        return 0
    print(f"\n{report.totals.lost} uploads got no answer. The stages said last:\n{report.log_tail}", file=sys.stderr)
    return 1


def _photos(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= PHOTOS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {PHOTOS_MAX}")
    return number
