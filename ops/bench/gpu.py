"""What an NVIDIA GPU makes of it: one short run, a few minutes of a card.

`python -m ops.bench.gpu [PHOTOS] [--json FILE] [--parts PART ...] [--tflops N] [--gbytes-per-s N]`

- encoder: images/s of every GPU runtime for batches of 1 to 256, beside the floor (FLOPs and bytes against the card's
  figures) and this machine's CPU;
- flips: verdicts of the GPU's float16 against the CPU's float32, over the photos and an edit of each;
- stage: decode and encode through ENCODE's own code, with Kafka in memory, and what each of them reaches alone;
- gpu-decode: nvJPEG in batches, beside the CPU's cores, and how far its pictures are from `preprocess.reduce`'s;
- compiled: `torch-cuda` after Inductor.

The file is written after every part: a machine that is taken back leaves what was measured. What cannot run is named
with its reason; without a GPU that is everything. A GPU that has failed fails for the whole process: name the parts and
run each by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from models.photos import read_photos
from models.runtimes.driver import find_driver
from stream.errors import RuntimeUnusable

# Module and function of each, in order of worth.
PARTS = {
    "encoder": ("gpu_parts", "encoder"),
    "flips": ("gpu_parts", "flips"),
    "stage": ("gpu_stage", "stage"),
    "gpu-decode": ("gpu_decode", "gpu_decode"),
    "compiled": ("gpu_parts", "compiled"),
}
PHOTOGRAPHIC = ("flips", "stage", "gpu-decode")
# An H100 SXM's, dense.
TFLOPS, GBYTES_PER_S = 989.0, 3350.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what can run; 0 also when that is nothing."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.gpu", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="*", help="folders or tar files of photos, 5,000 for the flips")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="these alone")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help="the card's dense float16 TFLOP/s")
    parser.add_argument("--gbytes-per-s", type=float, default=GBYTES_PER_S, help="the card's memory bandwidth")
    options = parser.parse_args(arguments)
    for result in run(options.photos, options.parts, options.tflops, options.gbytes_per_s):
        text = json.dumps(result, indent=1)
        if options.json is not None:
            options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    for name, why in result["not_run"].items():
        sys.stdout.write(f"NOT RUN: {name}: {why}\n")
    return 0


def run(photos: Sequence[Path], names: Sequence[str], tflops: float, gbytes_per_s: float) -> Iterator[dict[str, Any]]:
    """Figures by part, and under `not_run` why the others have none; again after every part."""
    result: dict[str, Any] = {"driver": None, "not_run": dict.fromkeys(names, "not reached")}
    try:
        result["driver"] = find_driver().version
    except RuntimeUnusable as error:
        yield {**result, "not_run": dict.fromkeys(names, str(error))}
        return
    contents = [photo.content for photo in read_photos(photos)]
    given: dict[str, tuple[Any, ...]] = {"encoder": (tflops, gbytes_per_s), "compiled": ()}
    for name in names:
        if name in PHOTOGRAPHIC and not contents:
            result["not_run"][name] = "no photos were named"
            continue
        try:
            module, function = PARTS[name]
            # Here: they import torch.
            measure = getattr(import_module(f"ops.bench.{module}"), function)
            result[name] = measure(*given.get(name, (contents,)))
            del result["not_run"][name]
        except Exception as error:  # noqa: BLE001 - a machine is lent once: the other parts must have their turn
            traceback.print_exc()
            result["not_run"][name] = f"{type(error).__name__}: {error}"
        yield result


if __name__ == "__main__":
    sys.exit(main())
