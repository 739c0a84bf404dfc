"""`dejaview eval`: how well copies are told from other pictures, on photos of your own or on published data sets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from models.evaluation.table import Table, markdown
from ops.cli.display import command_line, console, say, show_table
from stream.errors import SettingError

if TYPE_CHECKING:
    from models.background import Background
    from models.evaluation.published import Published
    from models.evaluation.queries import Methods
    from models.evaluation.result import Evaluation
    from models.photos import Photo

BASELINES = ("PDQ", "pHash", "dHash", "aHash", "wHash", "LBP-DCT")
DATASETS = ("copydays", "holidays", "ukbench")
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
        "--dataset", choices=DATASETS, help="PHOTOS is this data set as it is distributed; asked by its own protocol"
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
        SettingError: too few photos, a file that is none, the test part without a reason, a data set that is none.
    """
    from models.background import Background  # noqa: PLC0415 - these load OpenVINO and hashes
    from models.encoder import load_encoder  # noqa: PLC0415
    from models.evaluation.baselines import imagenet_features  # noqa: PLC0415
    from models.evaluation.queries import Methods  # noqa: PLC0415

    if args.split == "test" and not args.test_run:
        raise SettingError("--split test: the test part is for released models only; say why with --test-run")
    background = Background.load(args.weights)
    methods = Methods(
        load_encoder("auto", args.weights), args.baselines, args.imagenet and imagenet_features(args.imagenet)
    )
    if args.dataset:
        _published(args, background, methods)
    else:
        _edited(args, background, methods)
    return 0


def _edited(args: argparse.Namespace, background: Background, methods: Methods) -> None:
    from models.calibration import Calibration  # noqa: PLC0415
    from models.evaluation.page import html  # noqa: PLC0415
    from models.evaluation.queries import edits_with, parted, workshop  # noqa: PLC0415
    from models.evaluation.run import Ground, Model, evaluate  # noqa: PLC0415
    from models.evaluation.tables import summary, tables  # noqa: PLC0415
    from models.photos import TEST, TUNE, UNSEEN, read_photos, split  # noqa: PLC0415

    photos = _distinct(read_photos(args.photos))
    if args.split:
        part = split(TUNE if args.split == "tune" else TEST)
        photos = [photo for photo in photos if photo.sha256 in part]
    photos = photos[: args.photos_max]
    if len(photos) < PHOTOS_MIN:
        raise SettingError(f"{len(photos)} photos; at least {PHOTOS_MIN} are needed for figures")
    own = {photo.sha256 for photo in photos}
    others = [photo for photo in _distinct(read_photos(args.distractors)) if photo.sha256 not in own]
    rows, completing = parted(others, background)
    unseen = split(UNSEEN)
    ground = Ground(
        photos,
        [photo for photo in rows if photo.sha256 in unseen],
        [photo for photo in rows if photo.sha256 not in unseen],
    )
    with workshop(methods, completing) as bench:
        outcome = evaluate(
            ground, Model(background, Calibration.load(args.weights)), methods, bench,
            command=command_line(), seed=args.seed, say=say,
        )  # fmt: skip
    of = outcome.evaluation
    _tell(args, summary(of), tables(of), of)
    if args.html:
        args.html.write_text(html(outcome, ground, edits_with(completing)), encoding="utf-8")
    if args.split == "test":
        _keep(args.test_run, of)


def _published(args: argparse.Namespace, background: Background, methods: Methods) -> None:
    from models.evaluation.datasets import read_dataset  # noqa: PLC0415
    from models.evaluation.published import evaluate_published, summary_of, table_of  # noqa: PLC0415
    from models.evaluation.queries import workshop  # noqa: PLC0415
    from models.photos import read_photos  # noqa: PLC0415

    if len(args.photos) != 1 or not args.photos[0].is_dir():
        raise SettingError(f"--dataset {args.dataset}: give one folder, that of the data set")
    for name, given in (("--split", args.split), ("--html", args.html), ("--photos-max", args.photos_max)):
        if given:
            raise SettingError(f"{name} goes with photos that are edited here, not with --dataset")
    dataset = read_dataset(args.dataset, args.photos[0])
    distractors = (photo for photo in read_photos(args.distractors) if not background.holds(photo.sha256))
    with workshop(methods) as bench:
        of = evaluate_published(
            dataset, distractors, background, methods, bench, command=command_line(), seed=args.seed, say=say
        )
    _tell(args, summary_of(of), [table_of(of)], of)


def _distinct(photos: Iterable[Photo]) -> list[Photo]:
    found: dict[str, Photo] = {}
    for photo in photos:
        found.setdefault(photo.sha256, photo)
    return [photo for _, photo in sorted(found.items())]


def _tell(args: argparse.Namespace, lines: Sequence[str], tables: Sequence[Table], of: Evaluation | Published) -> None:
    for line in lines:
        console().print(line)
    for table in tables:
        show_table(table)
    if args.markdown:
        args.markdown.write_text(markdown(lines, tables, of.command), encoding="utf-8")
    if args.json:
        args.json.write_text(of.model_dump_json(indent=1) + "\n", encoding="utf-8")


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
