"""What an NVIDIA GPU makes of it: one short run, a few minutes of a card.

`python -m ops.bench.gpu [PHOTOS] [--json FILE] [--tflops N] [--gbytes-per-s N]`

- encoder: images/s of every GPU runtime for batches of 1 to 256, beside the floor (FLOPs and bytes against the card's
  figures) and OpenVINO on this machine's CPU;
- flips: verdicts of the GPU's float16 against the CPU's float32, over the photos and an edit of each;
- gpu decode: nvJPEG in batches, and how far its pictures are from `preprocess.reduce`'s;
- stage: decode and encode through ENCODE's own code, with Kafka in memory;
- compiled: `torch-cuda` after Inductor.

The file is written after every part: a machine that is taken back leaves what was measured. What cannot run is named
with its reason; without a GPU that is everything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from models.photos import read_photos
from models.runtimes.driver import find_driver
from stream.errors import DejaviewError, RuntimeUnusable

Part: TypeAlias = Callable[[], Any]

PARTS = ("encoder", "flips", "gpu decode", "stage", "compiled")
PHOTOGRAPHIC = ("flips", "gpu decode", "stage")
# An H100 SXM's, dense.
TFLOPS, GBYTES_PER_S = 989.0, 3350.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what can run; 0 also when that is nothing."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.gpu", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="*", help="folders or tar files of photos, 5,000 for the flips")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help="the card's dense float16 TFLOP/s")
    parser.add_argument("--gbytes-per-s", type=float, default=GBYTES_PER_S, help="the card's memory bandwidth")
    options = parser.parse_args(arguments)
    for result in run(options.photos, options.tflops, options.gbytes_per_s):
        text = json.dumps(result, indent=1)
        if options.json is not None:
            options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    for name, why in result["not_run"].items():
        sys.stdout.write(f"NOT RUN: {name}: {why}\n")
    return 0


def run(photos: Sequence[Path], tflops: float, gbytes_per_s: float) -> Iterator[dict[str, Any]]:
    """Figures by part, and under `not_run` why the others have none; again after every part."""
    result: dict[str, Any] = {"driver": None, "not_run": dict.fromkeys(PARTS, "not reached")}
    try:
        result["driver"] = find_driver().version
        # Here: it imports torch.
        from ops.bench import gpu_parts  # noqa: PLC0415
    except (RuntimeUnusable, ImportError) as error:
        yield {**result, "not_run": dict.fromkeys(PARTS, str(error))}
        return
    contents = [photo.content for photo in read_photos(photos)]
    parts: dict[str, Part] = {
        "encoder": lambda: gpu_parts.encoder(tflops, gbytes_per_s),
        "flips": lambda: gpu_parts.flips(contents),
        "gpu decode": lambda: gpu_parts.gpu_decode(contents),
        "stage": lambda: gpu_parts.stage(contents),
        "compiled": gpu_parts.compiled,
    }
    for name in PARTS:
        if name in PHOTOGRAPHIC and not contents:
            result["not_run"][name] = "no photos were named"
            continue
        try:
            result[name] = parts[name]()
            del result["not_run"][name]
        except (DejaviewError, RuntimeError, OSError, ImportError) as error:
            result["not_run"][name] = f"{type(error).__name__}: {error}"
        yield result


if __name__ == "__main__":
    sys.exit(main())
