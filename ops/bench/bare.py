"""The bare loop: what the pictures cost without dejaview around them. Every end-to-end figure stands beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from models.background import Background
from models.encoder import load_encoder
from ops.bench.cost import Meter
from stream.blas import one_blas_thread
from stream.config import EncodeSettings, IntakeSettings
from stream.intake.sandbox import DecoderPool


@dataclass(frozen=True, slots=True)
class Bare:
    """Of one tight loop: images/s, and CPU seconds an image."""

    images_per_s: float
    cpu_s: float


def bare_loop(photos: Sequence[bytes], count: int) -> Bare:
    """Decode, PDQ, panels, encode and bias with the product's own pools and batch size; no Kafka, no Milvus.

    Decoders run ahead of the encoder, as ENCODE's do.
    """
    one_blas_thread()
    batch = EncodeSettings().batch_items_max
    encoder, background, pool = load_encoder(), Background.load(), DecoderPool(IntakeSettings())
    with ThreadPoolExecutor(IntakeSettings().decoders) as threads:
        list(threads.map(pool.decode, photos[:batch]))
        meter = Meter({"loop": [os.getpid()]})
        decoded = threads.map(pool.decode, islice(cycle(photos), count))
        while some := [pixels for one in islice(decoded, batch) for pixels in one.inputs]:
            background.bias(encoder.encode(np.stack(some)))
        wall_s, cpu = meter.read()
    pool.close()
    return Bare(count / wall_s, cpu["loop"] / count)
