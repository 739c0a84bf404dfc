"""`dejaview scan`: the copies in a folder, without any server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.cli.pictures import find_pictures

if TYPE_CHECKING:
    from ops.scan.run import Member, Scan, Scanned


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `scan`."""
    parser = subparsers.add_parser(
        "scan",
        help="find the copies in a folder of pictures; needs no server",
        description="The same encoder and decision as for uploads, over the pictures of folders. Prints the groups of "
        "copies, the best picture of each first: most pixels, then most bytes. Changes nothing.",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="FOLDER", help="folders or pictures")
    parser.add_argument("--weights", type=Path, help="a weights folder; default: the built-in one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the groups; - for the terminal")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that shows the groups")
    parser.add_argument("--embeddings", type=Path, metavar="FILE", help="write names, vectors and model id (.npz)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Scan; 0 whatever was found.

    Raises:
        CommandError: a path does not exist or holds no picture.
    """
    import numpy as np  # noqa: PLC0415 - these load OpenVINO

    from models.background import Background  # noqa: PLC0415
    from models.calibration import Calibration  # noqa: PLC0415
    from models.encoder import load_encoder  # noqa: PLC0415
    from ops.scan.page import page  # noqa: PLC0415
    from ops.scan.run import scan  # noqa: PLC0415

    files = [(picture.upload_id, picture.file) for picture in find_pictures(args.paths, "name")]
    found = scan(
        files, load_encoder("auto", args.weights), Background.load(args.weights), Calibration.load(args.weights),
        lambda count: _say(f"\r{count} of {len(files)}") if sys.stderr.isatty() else None,
    )  # fmt: skip
    if sys.stderr.isatty():
        _say("\r")
    if args.json is None or str(args.json) != "-":
        _show(found)
    if args.json is not None:
        text = json.dumps(as_json(found), indent=1) + "\n"
        if str(args.json) == "-":
            print(text, end="")
        else:
            args.json.write_text(text, encoding="utf-8")
    if args.html is not None:
        args.html.write_text(page(found), encoding="utf-8")
    if args.embeddings is not None:
        np.savez(
            args.embeddings,
            names=np.array([picture.name for picture in found.pictures]),
            vectors=np.array([picture.embedding for picture in found.pictures], dtype=np.float32),
            model_id=np.array(found.model_id),
        )
    return 0


def as_json(found: Scan) -> dict[str, Any]:
    """Groups, pictures without copies, files that are none; names as in the folder."""
    return {
        "model_id": found.model_id,
        "groups": [
            {"best": _picture(group.best), "members": [_member(member) for member in group.members]}
            for group in found.groups
        ],
        "unique": [picture.name for picture in found.unique],
        "failures": [{"name": one.name, "reason": one.reason, "detail": one.detail} for one in found.failures],
    }


def _picture(picture: Scanned) -> dict[str, Any]:
    return {"name": picture.name, "width": picture.width, "height": picture.height, "bytes": picture.byte_count}


def _member(member: Member) -> dict[str, Any]:
    verdict = member.verdict
    match = verdict.match.upload_id if verdict.match else None
    return {
        **_picture(member.picture), "verdict": verdict.verdict, "match": match, "score": verdict.score,
        "similarity": verdict.similarity, "margin": verdict.margin, "confidence": verdict.confidence,
        "evidence": verdict.evidence,
        "panel": verdict.panel.model_dump() if verdict.panel else None,
    }  # fmt: skip


def _show(found: Scan) -> None:
    from ops.scan.run import part, summary  # noqa: PLC0415

    for group in found.groups:
        best = group.best
        print(f"{best.name}  {best.width}x{best.height}")
        for member in group.members:
            picture, verdict = member.picture, member.verdict
            print(
                f"  {verdict.verdict:9}  {picture.name}  {picture.width}x{picture.height}  score {verdict.score}  "
                f"confidence {verdict.confidence}  {' '.join(verdict.evidence)}{part(verdict)}"
            )
    for failure in found.failures:
        print(f"not judged: {failure.name}: {failure.reason}: {failure.detail}")
    print(summary(found))


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
