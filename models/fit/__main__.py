"""python -m models.fit background|calibration: see `--help` of each."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from models.fit.background import fit_background
from models.fit.calibration import DUPLICATE_PRECISION, REVIEW_SHARE_MAX, Wanted, fit_calibration
from models.manifest import BUILT_IN


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.fit", description="fit what ships beside the weights")
    commands = parser.add_subparsers(dest="command", required=True)
    background = commands.add_parser("background", help="write background.npz; the model id changes")
    background.add_argument("--photos", type=Path, nargs="+", required=True, help="tar files of photos")
    calibration = commands.add_parser("calibration", help="write calibration.json, after the background")
    calibration.add_argument("--photos", type=Path, required=True, nargs="+", help="photos to edit (BSDS500)")
    calibration.add_argument("--distractors", type=Path, nargs="*", default=[], help="tar files of other photos")
    calibration.add_argument("--precision", type=float, default=DUPLICATE_PRECISION, help="of what is called duplicate")
    calibration.add_argument(
        "--review-share", type=float, default=REVIEW_SHARE_MAX, help="at most this share to review"
    )
    for command in (background, calibration):
        command.add_argument("--weights", type=Path, default=BUILT_IN, help="weights folder (default: the built-in)")
    arguments = parser.parse_args()
    if arguments.command == "background":
        manifest = fit_background(arguments.weights, arguments.photos)
    else:
        wanted = Wanted(arguments.precision, arguments.review_share)
        line = f"python -m models.fit {shlex.join(sys.argv[1:])}"
        manifest = fit_calibration(arguments.weights, arguments.photos, arguments.distractors, wanted, line)
    print(manifest.model_dump_json(indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
