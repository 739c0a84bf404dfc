"""`dejaview eval`: how well copies are told from other pictures, on photos of your own or the project's."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stream.errors import SettingError

if TYPE_CHECKING:
    from models.evaluation.result import Evaluation
    from models.photos import Photo

BASELINES = ("PDQ", "pHash", "dHash", "aHash", "wHash", "LBP-DCT")
PHOTOS_MIN = 10
TEST_LOG = Path("docs") / "test-runs.jsonl"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="measure accuracy per edit, beside perceptual hashes, on photos you name",
        description="Edits every photo in some fifty ways and looks for the copies among the photos and others. "
        "Prints tables; writes Markdown, JSON and a page with curves and the worst cases.",
    )
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders, tar files or pictures")
    parser.add_argument(
        "--distractors", type=Path, nargs="+", default=[], metavar="PHOTOS", help="other photos, no copies"
    )
    parser.add_argument(
        "--split", choices=("tune", "test"), help="of the photos, only the project's tuning or test part of BSDS500"
    )
    parser.add_argument("--test-run", metavar="WHY", help=f"allow --split test; the reason is kept in {TEST_LOG}")
    parser.add_argument("--weights", type=Path, help="a weights folder; default: the built-in one")
    parser.add_argument("--imagenet", type=Path, metavar="FILE", help="weights of MobileNetV3-small, to compare with")
    parser.add_argument("--baselines", nargs="*", choices=BASELINES, default=list(BASELINES), help="default: all")
    parser.add_argument("--photos-max", type=int, metavar="N", help="only so many photos, those of lowest hash")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; edits have seeds of their own")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate.

    Raises:
        SettingError: too few photos, a file that is none, or the test part without a reason.
    """
    from models.background import Background  # noqa: PLC0415 - these load OpenVINO and hashes
    from models.calibration import Calibration  # noqa: PLC0415
    from models.encoder import load_encoder  # noqa: PLC0415
    from models.evaluation.baselines import imagenet_features  # noqa: PLC0415
    from models.evaluation.page import html, markdown  # noqa: PLC0415
    from models.evaluation.queries import Methods, edits_with, parted, workshop  # noqa: PLC0415
    from models.evaluation.run import Ground, Model, evaluate  # noqa: PLC0415
    from models.photos import TEST, TUNE, UNSEEN, read_photos, split  # noqa: PLC0415

    if args.split == "test" and not args.test_run:
        raise SettingError("--split test: the test part is for released models only; say why with --test-run")
    photos = _distinct(read_photos(args.photos))
    if args.split:
        part = split(TUNE if args.split == "tune" else TEST)
        photos = [photo for photo in photos if photo.sha256 in part]
    photos = photos[: args.photos_max]
    if len(photos) < PHOTOS_MIN:
        raise SettingError(f"{len(photos)} photos; at least {PHOTOS_MIN} are needed for figures")
    own = {photo.sha256 for photo in photos}
    background = Background.load(args.weights)
    others = [photo for photo in _distinct(read_photos(args.distractors)) if photo.sha256 not in own]
    rows, completing = parted(others, background)
    unseen = split(UNSEEN)
    ground = Ground(
        photos,
        [photo for photo in rows if photo.sha256 in unseen],
        [photo for photo in rows if photo.sha256 not in unseen],
    )
    methods = Methods(
        load_encoder("auto", args.weights), args.baselines, args.imagenet and imagenet_features(args.imagenet)
    )
    with workshop(methods, completing) as bench:
        outcome = evaluate(
            ground, Model(background, Calibration.load(args.weights)), methods, bench,
            command=f"dejaview {shlex.join(sys.argv[1:])}", seed=args.seed, say=_say,
        )  # fmt: skip
    _show(outcome.evaluation)
    if args.markdown:
        args.markdown.write_text(markdown(outcome.evaluation), encoding="utf-8")
    if args.json:
        args.json.write_text(outcome.evaluation.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if args.html:
        args.html.write_text(html(outcome, ground, edits_with(completing)), encoding="utf-8")
    if args.split == "test":
        _keep(args.test_run, outcome.evaluation)
    return 0


def _distinct(photos: Iterable[Photo]) -> list[Photo]:
    found: dict[str, Photo] = {}
    for photo in photos:
        found.setdefault(photo.sha256, photo)
    return [photo for _, photo in sorted(found.items())]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(evaluation: Evaluation) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from models.evaluation.tables import summary, tables  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 160)
    for line in summary(evaluation):
        console.print(line, highlight=False)
    for one in tables(evaluation):
        shown = Table(title=one.title, caption=one.note, title_justify="left", caption_justify="left")
        for place, name in enumerate(one.header):
            shown.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
        for row in one.rows:
            shown.add_row(*row)
        console.print(shown)


def _keep(why: str, evaluation: Evaluation) -> None:
    figures = evaluation.methods["dejaview"]
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_id": evaluation.model_id,
        "why": why,
        "micro_ap": round(figures.micro_ap.value, 4),
        "mean_recall_at_99": round(figures.mean_recall_at_99.value, 4),
        "command": evaluation.command,
    }
    with TEST_LOG.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
