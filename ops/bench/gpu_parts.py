"""What an encoder makes of a GPU, for `ops.bench.gpu`; each part returns its figures, ready for JSON. Imports torch."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from models.background import Background
from models.calibration import Calibration
from models.encoder import Encoder, Options, RuntimeName, choose_encoder, load_encoder
from models.manifest import BUILT_IN, SAFETENSORS
from models.preprocess import SIDE, Pixels
from models.runtimes.batches import BATCH_MAX, BUCKETS
from models.runtimes.cuda import CudaEncoder
from models.runtimes.half import load_half_network
from ops.bench.edited import pairs
from ops.bench.floor import floor_of
from ops.bench.told import Told
from schemas.events import Vector
from stream.errors import DejaviewError

RUN_S = 1.0
# Between two waits for the card.
REPLAYS = 10
COMPARED: tuple[RuntimeName, ...] = ("torch-cuda", "tensorrt", "openvino")
RUNTIMES: tuple[RuntimeName, ...] = (*COMPARED, "torch")
COMPILED = "torch-cuda, compiled"


def encoder(tflops: float, gbytes_per_s: float) -> dict[str, Any]:
    """Images/s by runtime and batch size, beside the floor; a runtime that does not work has its error instead."""
    content = (BUILT_IN / SAFETENSORS).read_bytes()
    floor = floor_of(load_half_network(content))
    rates = Told()
    for name in RUNTIMES:
        rates[name] = _rates(lambda name=name: load_for(name))  # type: ignore[misc]
    floors = {}
    for size in BUCKETS:
        arithmetic_s, traffic_s = floor.batch_s(size, tflops, gbytes_per_s)
        floors[size] = {"by arithmetic": size / arithmetic_s, "by layer traffic": size / traffic_s}
    return {
        "gpu": torch.cuda.get_device_name(),
        "card": {"tflops": tflops, "gbytes_per_s": gbytes_per_s},
        "per_image": {"flops": floor.flops, "layer_bytes": floor.layer_bytes, "edge_bytes": floor.edge_bytes},
        "weight_bytes": floor.weight_bytes,
        "images_per_s": rates,
        "floor_images_per_s": floors,
    }


def compiled() -> dict[str, Any]:
    """torch's own kernels after Inductor: what compiling them gains over graphs of eager ones. Takes minutes."""
    return {"images_per_s": _rates(_compiled)}


def load_for(name: RuntimeName) -> Encoder:
    """A runtime for batches of up to 256."""
    return choose_encoder(name, None, Options(batch_items=BATCH_MAX)).encoder


def _compiled() -> Encoder:
    network = load_half_network((BUILT_IN / SAFETENSORS).read_bytes()).cuda()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Twice: for the first size, the largest, and for any other. For each by itself would take minutes.
    forward = torch.compile(network)
    return CudaEncoder(COMPILED, "bench", lambda _: forward, BATCH_MAX)


def _rates(load: Callable[[], Encoder]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        made = load()
    except DejaviewError as error:
        traceback.print_exc()
        return {"not_run": str(error)}
    found = Told(runtime=made.runtime)
    found["opened_s"] = time.perf_counter() - begun
    images: Pixels = np.random.default_rng(5).integers(0, 256, (BATCH_MAX, SIDE, SIDE, 3), dtype=np.uint8)
    try:
        for size in BUCKETS:
            found[str(size)] = _rate(made, images[:size])
    except DejaviewError as error:
        traceback.print_exc()
        found["broke"] = str(error)
    return found


def _rate(made: Encoder, batch: Pixels) -> dict[str, float]:
    """Images/s from pictures in memory to embeddings in memory; of a GPU also without the copies between."""
    size = len(batch)
    rates = {"encode": _repeated(lambda: made.encode(batch), size, 1)}
    if isinstance(made, CudaEncoder):
        rates["compute"] = _repeated(lambda: made.recompute(size, REPLAYS), size, REPLAYS)
    return rates


def _repeated(call: Callable[[], object], size: int, times: int) -> float:
    call()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < RUN_S:
        call()
        done += size * times
    return done / (time.perf_counter() - begun)


def flips(photos: Sequence[bytes]) -> dict[str, Any]:
    """One edit of every photo asks for all photos: whose verdict depends on the runtime?

    Args:
        photos: image files; an edit of each is drawn.
    """
    rows, queries = pairs(photos)
    reference = load_encoder("torch")
    row_vectors, query_vectors = _all(reference, rows), _all(reference, queries)
    best = _best(row_vectors, query_vectors)
    found = Told()
    found["queries"] = len(queries)
    for name in COMPARED:
        try:
            made = load_for(name)
        except DejaviewError as error:
            found[name] = {"not_run": str(error)}
            continue
        others = _all(made, rows), _all(made, queries)
        both = list(zip((row_vectors, query_vectors), others, strict=True))
        found[name] = {
            "lowest_cosine": float(min((one * other).sum(axis=1).min() for one, other in both)),
            "largest_difference": float(max(np.abs(one - other).max() for one, other in both)),
            **_compared(best, _best(*others)),
        }
    return found


def _compared(one: Vector, other: Vector) -> dict[str, Any]:
    limits = [Calibration.load().review_threshold, Calibration.load().duplicate_threshold]
    verdicts = np.digitize(one, limits), np.digitize(other, limits)
    return {
        "flips": int((verdicts[0] != verdicts[1]).sum()),
        "verdicts": [np.bincount(which, minlength=3).tolist() for which in verdicts],
        "largest_score_difference": float(np.abs(one - other).max()),
    }


def _all(made: Encoder, pictures: Pixels) -> Vector:
    return np.concatenate([made.encode(pictures[n : n + BATCH_MAX]) for n in range(0, len(pictures), BATCH_MAX)])


def _best(rows: Vector, queries: Vector) -> Vector:
    """The best score of every query, rounded as the decision rounds it."""
    scores = Background.load().against(rows)
    found = [scores(queries[n : n + BATCH_MAX]).max(axis=1) for n in range(0, len(queries), BATCH_MAX)]
    best: Vector = np.concatenate(found).round(4)
    return best
