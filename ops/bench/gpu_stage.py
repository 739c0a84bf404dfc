"""ENCODE's loop beside a GPU, for `ops.bench.gpu`: with decoding, without, and what decoding reaches alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from time import perf_counter
from typing import Any

from models.encoder import Encoder, Options, choose_encoder
from models.runtimes.batches import BATCH_MAX
from ops.bench.edited import decode_rate, decoded
from ops.bench.stage import stage_rate
from ops.bench.told import Told
from stream.config import IntakeSettings, Settings
from stream.intake.decode import Decoded
from stream.intake.sandbox import DecoderPool

IMAGES = 20_000
DIFFERENT = 512
WORKERS = (1, 4, 8)
TIMEOUT_S = 100.0


def stage(photos: Sequence[bytes]) -> dict[str, Any]:
    """Images/s: one worker with all cores as decoders, and several with a share of them each."""
    cores = len(os.sched_getaffinity(0))
    photos = photos[:DIFFERENT]
    ready = decoded(photos)
    found = Told()
    found["cores"] = cores
    found["decoding alone, without a sandbox"] = decode_rate(list(islice(cycle(photos), IMAGES)))
    found["decoding alone, one pool"] = _pool_rate(photos, cores)
    made = _encoder()
    found["runtime"] = made.runtime
    for workers in WORKERS:
        with_decoding, without = _rates(workers, made, photos, ready)
        found[f"{workers} workers"] = with_decoding
        found[f"{workers} workers, decoded before"] = without
    return found


def settings_for(decoders: int) -> Settings:
    """Large batches, and memory for them: a poll takes as many uploads as would fit if each were as large as may be."""
    given = Settings()
    encode = {"batch_items_max": BATCH_MAX, "in_flight_items_max": 4 * BATCH_MAX, "in_flight_bytes_max": 32 * 10**9}
    return given.model_copy(
        update={
            "intake": given.intake.model_copy(update={"decoders": decoders}),
            "encode": given.encode.model_copy(update=encode),
        }
    )


def _pool_rate(photos: Sequence[bytes], decoders: int) -> float:
    """What the sandboxed processes of one worker decode when it does nothing else."""
    pool = DecoderPool(IntakeSettings(decoders=decoders))
    try:
        with ThreadPoolExecutor(decoders) as threads:
            list(threads.map(pool.decode, photos))
            begun = perf_counter()
            list(threads.map(pool.decode, islice(cycle(photos), IMAGES)))
            return IMAGES / (perf_counter() - begun)
    finally:
        pool.close()


def _rates(workers: int, made: Encoder, photos: Sequence[bytes], ready: Sequence[Decoded]) -> tuple[float, float]:
    """With and without decoding. All cores are decoders, shared by the workers; several have a process each."""
    decoders = max(1, len(os.sched_getaffinity(0)) // workers)
    count = IMAGES // workers
    if workers == 1:
        with_s, without_s = _seconds(made, decoders, photos, count, ready)
        return count / with_s, count / without_s
    # Spawned: a process that is forked beside CUDA cannot use it.
    context = get_context("spawn")
    together = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(together,)) as processes:
        jobs = [processes.submit(_worker, decoders, photos, count, ready) for _ in range(workers)]
        with_s, without_s = (max(taken_s) for taken_s in zip(*(job.result() for job in jobs), strict=True))
        return count * workers / with_s, count * workers / without_s


def _begin(together: threading.Barrier) -> None:
    global _together  # noqa: PLW0603 - a barrier reaches a process as it starts, and no other way
    _together = together


_together: threading.Barrier | None = None


def _worker(decoders: int, photos: Sequence[bytes], count: int, ready: Sequence[Decoded]) -> tuple[float, float]:
    return _seconds(_encoder(), decoders, photos, count, ready)


def _seconds(
    made: Encoder, decoders: int, photos: Sequence[bytes], count: int, ready: Sequence[Decoded]
) -> tuple[float, float]:
    """For so many pictures, with and without decoding, each begun when all workers are there."""
    taken_s = []
    for given in ((), ready):
        if _together is not None:
            _together.wait(TIMEOUT_S)
        taken_s.append(count / stage_rate(settings_for(decoders), made, photos, count, TIMEOUT_S, given))
    with_s, without_s = taken_s
    return with_s, without_s


def _encoder() -> Encoder:
    return choose_encoder("auto", None, Options(batch_items=BATCH_MAX)).encoder
