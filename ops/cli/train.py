"""`dejaview train`: one stage of training the encoder on photos of your own, resumable."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ops.cli.display import say
from stream.errors import SettingError

# Views drawn of each photo on a GPU, which has time for them while the cores edit two.
ON_GPU = 4


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `train`."""
    parser = subparsers.add_parser(
        "train",
        help="train the encoder on photos; needs the extra `torch`",
        description="Puts edited copies of a photo close together and other photos apart, without labels. Runs one "
        "stage of so many minutes; the same command goes on with what was interrupted. Then: python -m models.export.",
    )
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTOS", help="folders or tar files")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="state, curve and result; one a stage"
    )
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="FILE", help="weights to start from; default: random"
    )
    parser.add_argument("--backbone", choices=("small", "large"), default="small", help="MobileNetV3; default: small")
    parser.add_argument("--minutes", type=float, default=90.0, help="of this stage; default: %(default)g")
    parser.add_argument("--batch", type=int, default=160, help="photos a step; default: %(default)s")
    parser.add_argument("--backbone-rate", type=float, default=4e-4, help="default: %(default)g")
    parser.add_argument("--head-rate", type=float, default=1e-3, help="default: %(default)g")
    parser.add_argument(
        "--resolutions", type=_resolutions, default=((0.7, 144), (1.0, 192)), metavar="SHARE:SIDE,…",
        help="side in pixels until each share of the stage's time; default: 0.7:144,1:192",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that edit; default: one a core"
    )
    parser.add_argument(
        "--device-views", type=int, metavar="N",
        help="more views of each photo, drawn where the network computes; default: 4 on a GPU, none on a CPU",
    )  # fmt: skip
    parser.add_argument(
        "--queue", type=int, default=1280, help="earlier views as further negatives; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Train.

    Raises:
        SettingError: torch is not installed, too few photos, or weights that do not fit.
    """
    try:
        import torch  # noqa: PLC0415 - of the extra `torch`

        from models.training.loop import Recipe  # noqa: PLC0415
        from models.training.stage import run_stage  # noqa: PLC0415
    except ImportError as error:
        raise SettingError(f"training needs the extra `torch` ({error}): pip install 'dejaview[torch]'") from error
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    drawn = args.device_views if args.device_views is not None else ON_GPU if device == "cuda" else 0
    recipe = Recipe(
        minutes=args.minutes, batch=args.batch, queue=args.queue, device_views=drawn,
        backbone_rate=args.backbone_rate, head_rate=args.head_rate,
        resolutions=args.resolutions, workers=args.workers, seed=args.seed,
    )  # fmt: skip
    result = run_stage(args.photos, args.start, args.out, recipe, say, device, args.backbone)
    print(f"{result}\nNext: python -m models.export --from {result} --to models/weights/NAME")
    return 0


def _resolutions(text: str) -> tuple[tuple[float, int], ...]:
    try:
        found = tuple((float(share), int(side)) for share, _, side in (part.partition(":") for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not SHARE:SIDE,…") from error
    shares = [share for share, _ in found]
    if shares != sorted(shares) or shares[-1] != 1 or any(side % 2 or not 64 <= side <= 448 for _, side in found):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r}: shares must rise to 1, sides be even, 64 to 448")
    return found
