"""Decoding: the sandboxed pool that ENCODE uses, beside the same work without a sandbox, and beside Pillow."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import numpy as np
from PIL import Image

from models.preprocess import SIDE
from ops.bench.cost import Meter
from ops.bench.photos import PHONE_SIZE, as_by_a_phone
from ops.bench.result import Figure, Part
from stream.config import IntakeSettings
from stream.intake.decode import decode
from stream.intake.sandbox import DecoderPool, limits_of

PHONE_PHOTOS = 8
NOTE = (
    "Decode, upright, 224 pixels, PDQ, panels. CPU: user and system milliseconds an image, decoder processes included. "
    "A ratio of CPU above 1 is what the sandbox costs."
)


def measure(photos: Sequence[bytes], count: int) -> Part:
    """Images/s and CPU of small and of phone pictures."""
    kinds = {
        "as given": (photos, count),
        f"{PHONE_SIZE[0]}x{PHONE_SIZE[1]}": (as_by_a_phone(photos, PHONE_PHOTOS), max(16, count // 20)),
    }
    figures: list[Figure] = []
    for name, (pictures, number) in kinds.items():
        figures += _figures(name, list(islice(cycle(pictures), number)))
    return Part("decode", "Decoding", NOTE, figures)


def _figures(name: str, pictures: Sequence[bytes]) -> list[Figure]:
    settings = IntakeSettings()
    limits = limits_of(settings)
    pool = DecoderPool(settings)
    with ThreadPoolExecutor(settings.decoders) as threads:
        list(threads.map(pool.decode, pictures[: 2 * settings.decoders]))
        pool_rate, pool_ms = _run(lambda: list(threads.map(pool.decode, pictures)), len(pictures))
    pool.close()
    bare_rate, bare_ms = _run(lambda: [decode(data, limits) for data in pictures], len(pictures))
    whole_rate, whole_ms = _run(lambda: [_whole(data) for data in pictures], len(pictures))
    processes = f"one process without a sandbox, times {settings.decoders}"
    return [
        Figure(f"{name}: pool of {settings.decoders}", pool_rate, "images/s", processes, bare_rate * settings.decoders),
        Figure(f"{name}: CPU of the pool", pool_ms, "ms", "the same decoding without a sandbox", bare_ms),
        Figure(
            f"{name}: CPU without a sandbox", bare_ms, "ms", "Pillow: whole picture, then resized; no PDQ", whole_ms
        ),
        Figure(
            f"{name}: one process", bare_rate, "images/s", "Pillow: whole picture, then resized; no PDQ", whole_rate
        ),
    ]


def _run(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Images/s, and CPU milliseconds an image."""
    meter = Meter({"here": [os.getpid()]})
    work()
    wall_s, cpu = meter.read()
    return count / wall_s, 1000 * cpu["here"] / count


def _whole(data: bytes) -> object:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
