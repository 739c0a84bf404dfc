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
WORKERS = (1, 4)
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
        for name, given in (("", ()), (", decoded before", ready)):
            found[f"{workers} workers{name}"] = _rate(workers, made, photos, given)
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


def _rate(workers: int, made: Encoder, photos: Sequence[bytes], ready: Sequence[Decoded]) -> float:
    """All cores are decoders, shared by the workers; one works here, several in processes of their own."""
    decoders = max(1, len(os.sched_getaffinity(0)) // workers)
    count = IMAGES // workers
    if workers == 1:
        return stage_rate(settings_for(decoders), made, photos, count, TIMEOUT_S, ready)
    # Spawned: a process that is forked beside CUDA cannot use it.
    context = get_context("spawn")
    together = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(together,)) as processes:
        jobs = [processes.submit(_worker, decoders, photos, count, ready) for _ in range(workers)]
        return count * workers / max(job.result() for job in jobs)


def _begin(together: threading.Barrier) -> None:
    global _together  # noqa: PLW0603 - a barrier reaches a process as it starts, and no other way
    _together = together


_together: threading.Barrier | None = None


def _worker(decoders: int, photos: Sequence[bytes], count: int, ready: Sequence[Decoded]) -> float:
    """Seconds, begun when all workers are."""
    made = _encoder()
    if _together is not None:
        _together.wait(TIMEOUT_S)
    return count / stage_rate(settings_for(decoders), made, photos, count, TIMEOUT_S, ready)


def _encoder() -> Encoder:
    return choose_encoder("auto", None, Options(batch_items=BATCH_MAX)).encoder
