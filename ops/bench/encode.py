"""The encoder alone, beside what OpenVINO's own benchmark reaches with the same network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.encoder import Encoder, load_encoder
from models.manifest import BUILT_IN, ONNX
from models.preprocess import SIDE, Pixels
from ops.bench.cost import Meter
from ops.bench.result import Figure, Line, Part, Plot
from stream.config import IntakeSettings
from stream.errors import DejaviewError
from stream.intake.sandbox import DecoderPool

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BENCHMARK_S = 10
TIMEOUT_S = 300
NOTE = (
    "`Encoder.encode` in one thread over decoded photos, float32. Beside it: openvino's benchmark_app with the same "
    "network, precision and shape, throughput hint, one picture a request."
)
_THROUGHPUT = re.compile(r"Throughput:\s+([\d.]+) FPS")


class BenchmarkFailed(DejaviewError):
    """A peer's own benchmark did not run."""


def measure(photos: Sequence[bytes], seconds: float) -> Part:
    """Images/s by batch size."""
    pixels = decoded(photos, max(BATCHES))
    encoder = load_encoder()
    peer = benchmark_app(BENCHMARK_S if seconds >= 1 else 1) if encoder.runtime == "openvino" else None
    rates = {batch: rate(encoder, pixels[:batch], seconds) for batch in BATCHES}
    meter, many = Meter({"here": [os.getpid()]}), pixels[:32]
    per_s = rate(encoder, many, seconds)
    wall_s, cpu = meter.read()
    figures = [
        Figure(f"batches of {batch}", found, "images/s", "benchmark_app", peer) for batch, found in rates.items()
    ]
    figures.append(Figure("CPU in batches of 32", 1000 * cpu["here"] / (per_s * wall_s), "ms"))
    lines = [Line(encoder.runtime, list(map(float, rates)), list(rates.values()))]
    if peer is not None:
        lines.append(Line("benchmark_app", [float(BATCHES[0]), float(BATCHES[-1])], [peer, peer]))
    return Part("encode", f"Encoding ({encoder.runtime})", NOTE, figures, [Plot("Encoder", "batch", "images/s", lines)])


def rate(encoder: Encoder, pixels: Pixels, seconds: float) -> float:
    """Images/s of one batch, over and over."""
    encoder.encode(pixels)
    begun, batches = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or not batches:
        encoder.encode(pixels)
        batches += 1
    return batches * len(pixels) / (time.perf_counter() - begun)


def decoded(photos: Sequence[bytes], count: int) -> Pixels:
    """uint8 [count, 224, 224, 3], photos repeated if there are fewer."""
    settings = IntakeSettings()
    pool = DecoderPool(settings)
    with ThreadPoolExecutor(settings.decoders) as threads:
        some = [one.pixels for one in threads.map(pool.decode, photos[:count])]
    pool.close()
    return np.stack([some[number % len(some)] for number in range(count)])


def benchmark_app(seconds: int) -> float:
    """Images/s that OpenVINO's benchmark_app reports for the built-in network.

    Raises:
        BenchmarkFailed: it did not run, or says nothing.
    """
    start = "from openvino.tools.benchmark.main import main; main()"
    command = [sys.executable, "-c", start, "-m", str(BUILT_IN / ONNX), "-d", "CPU"]
    command += ["-hint", "throughput", "-infer_precision", "f32", "-t", str(seconds), "-shape", f"[1,{SIDE},{SIDE},3]"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    found = _THROUGHPUT.search(answer.stdout + answer.stderr)
    if answer.returncode != 0 or found is None:
        raise BenchmarkFailed(f"openvino's benchmark_app failed: {(answer.stderr or answer.stdout)[-1000:]}")
    return float(found.group(1))
