"""The parts of the benchmark, one after another."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ops.bench import decide, decode, encode, index, latency, peer
from ops.bench.photos import photos_of
from ops.bench.result import Figure, Part
from ops.bench.rig import Rig

PHOTOS_MAX = 1_000
CORES = os.cpu_count() or 1


def measure(args: argparse.Namespace, names: Sequence[str], folder: Path, say: Callable[[str], None]) -> Iterator[Part]:
    """Each part as it is done.

    Args:
        args: of `dejaview bench`.
        folder: empty, for servers, settings and logs.

    Raises:
        SettingError: no photos.
    """
    photos = photos_of(args.photos, PHOTOS_MAX)
    with Rig(folder) as rig:
        parts: dict[str, Callable[[], Part]] = {
            "decode": lambda: decode.measure(photos, args.uploads),
            "encode": lambda: encode.measure(photos, args.seconds),
            "decide": lambda: decide.measure(rig, photos, args.fingerprints, args.rows),
            "index": lambda: index.measure(rig, photos, args.fingerprints),
            "latency": lambda: latency.measure(rig, photos, args.uploads, args.seconds),
        }
        found: list[Part] = []
        for name in names:
            say(f"{name} …")
            found.append(parts[name]())
            yield found[-1]
        if args.peer:
            say("imagededup …")
            yield _beside(peer.measure(photos, folder), found)


def _beside(of: peer.Peer, found: Sequence[Part]) -> Part:
    """imagededup's figures, and ours over them where this run has any."""
    figures = [
        Figure(f"imagededup, {workers or 'no'} loader processes", rate, "images/s")
        for workers, rate in of.by_workers.items()
    ]
    ours = next((f for p in found for f in p.figures if f.what == "exactly_once: highest rate"), None)
    cost = next((f for p in found for f in p.figures if f.what == "exactly_once: CPU an image"), None)
    if ours is not None and cost is not None:
        figures += [
            Figure("dejaview, servers beside it", ours.value, "images/s", "imagededup at its best", of.best),
            Figure("dejaview, servers beside it", ours.value, "images/s", "imagededup in one process", of.alone),
            Figure(
                "dejaview, servers' CPU set aside",
                CORES * 1000 / cost.value,
                "images/s",
                "imagededup at its best",
                of.best,
            ),
        ]
    note = f"CNN encoding of imagededup {peer.VERSION} (MobileNetV3-small, torch), from files; no search, no delivery."
    return Part("peer", "Beside imagededup", note, figures)
