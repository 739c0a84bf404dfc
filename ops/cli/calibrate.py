"""`dejaview calibrate`: thresholds that keep what you state, from labelled pairs or a background of your own."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ops.cli.display import command_line
from stream.errors import SettingError

if TYPE_CHECKING:
    from models.fit.calibration import Wanted


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `calibrate`."""
    parser = subparsers.add_parser(
        "calibrate",
        help="fit thresholds and confidences to your own pictures",
        description="Finds the thresholds that keep what you state: so much precision, at most so much to review.",
    )
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    pairs = ways.add_parser("pairs", help="from pairs that people labelled; prints a tenant's thresholds")
    pairs.add_argument(
        "file",
        type=Path,
        metavar="FILE.csv",
        help="columns first,second,copy (pictures, the second uploaded later) or score,copy",
    )
    pairs.add_argument("--tenant", default="TENANT", help="whose thresholds are printed")
    pairs.add_argument("--out", type=Path, metavar="FOLDER", help="write a weights folder for all tenants, too")
    background = ways.add_parser(
        "background", help="normalise by pictures of your own traffic; writes a weights folder with a new model id"
    )
    background.add_argument(
        "photos", type=Path, nargs="+", metavar="PHOTOS", help="some thousand, no copies: folders or tar files"
    )
    background.add_argument(
        "--tune", type=Path, nargs="+", metavar="PHOTOS", required=True, help="others, to edit and fit thresholds on"
    )
    background.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    for way in (pairs, background):
        way.add_argument("--weights", type=Path, help="a weights folder; default: the built-in one")
        way.add_argument("--precision", type=_share, default=0.99, help="of what is called duplicate; default: .99")
        way.add_argument("--review-share", type=_share, default=0.01, help="at most this share to review; default: .01")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Fit.

    Raises:
        SettingError: too few pairs or photos, or no threshold keeps what was stated.
    """
    from models.fit.calibration import Wanted  # noqa: PLC0415 - loads OpenVINO
    from models.manifest import BUILT_IN  # noqa: PLC0415

    wanted, weights = Wanted(args.precision, args.review_share), args.weights or BUILT_IN
    return _pairs(args, wanted, weights) if args.way == "pairs" else _background(args, wanted, weights)


def _pairs(args: argparse.Namespace, wanted: Wanted, weights: Path) -> int:
    from models.background import Background  # noqa: PLC0415
    from models.encoder import load_encoder  # noqa: PLC0415
    from models.fit.pairs import fit_pairs, read_pairs, write_weights  # noqa: PLC0415

    pairs = read_pairs(args.file, load_encoder("auto", weights), Background.load(weights))
    found = fit_pairs(pairs, wanted)
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.measured.items())
    print(f"# {len(pairs.scores)} pairs, {int(pairs.copy.sum())} of them copies: {told}")
    print("tenants:\n  thresholds:")
    print(f"    {args.tenant}: {{duplicate: {found.duplicate:.4f}, review: {found.review:.4f}}}")
    if args.out:
        write_weights(found, pairs, wanted, weights, args.out, command_line())
        print(f"# model: {{weights: {args.out}}} has them for all tenants, and its confidences")
    return 0


def _background(args: argparse.Namespace, wanted: Wanted, weights: Path) -> int:
    from models.fit.background import fit_background  # noqa: PLC0415
    from models.fit.calibration import fit_calibration  # noqa: PLC0415

    if args.out.exists():
        raise SettingError(f"--out: {args.out} exists; name a new folder")
    shutil.copytree(weights, args.out)
    try:
        fit_background(args.out, args.photos)
        manifest = fit_calibration(args.out, args.tune, args.photos, wanted, command_line())
    except SettingError:
        shutil.rmtree(args.out)
        raise
    print(f"{args.out} holds {manifest.model_id}: another model id, so a deployment of its own (README: a new model)")
    return 0


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value
