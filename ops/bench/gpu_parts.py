"""The parts of `ops.bench.gpu`; each returns its figures, ready for JSON.

Imports torch. What one part alone needs is imported there: a machine that is lent has what was carried to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.background import Background
from models.calibration import Calibration
from models.edits import EDITS
from models.encoder import Encoder, Options, RuntimeName, choose_encoder, load_encoder
from models.manifest import BUILT_IN, SAFETENSORS
from models.preprocess import SIDE, Pixels, reduce, upright_rgb
from models.runtimes.batches import BATCH_MAX, BUCKETS
from models.runtimes.cuda import CudaEncoder
from models.runtimes.half import load_half_network
from ops.bench.floor import floor_of
from schemas.events import Vector
from stream.errors import DejaviewError

RUN_S = 2.0
DECODE_BATCH = 64
STAGE_IMAGES = 20_000
RUNTIMES: tuple[RuntimeName, ...] = ("tensorrt", "torch-cuda", "openvino")
COMPILED = "torch-cuda, compiled"


def encoder(tflops: float, gbytes_per_s: float) -> dict[str, Any]:
    """Images/s by runtime and batch size, beside the floor; a runtime that does not work has its error instead."""
    content = (BUILT_IN / SAFETENSORS).read_bytes()
    floor = floor_of(load_half_network(content))
    rates: dict[str, Any] = {}
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
    forward = torch.compile(network, dynamic=False)
    return CudaEncoder(COMPILED, "bench", lambda _: forward, BATCH_MAX)


def _rates(load: Callable[[], Encoder]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        made = load()
    except DejaviewError as error:
        return {"not_run": str(error)}
    opened_s = time.perf_counter() - begun
    random = np.random.default_rng(5)
    images: Pixels = random.integers(0, 256, (BATCH_MAX, SIDE, SIDE, 3), dtype=np.uint8)
    return {"opened_s": opened_s, **{str(size): _rate(made, images[:size]) for size in BUCKETS}}


def _rate(made: Encoder, batch: Pixels) -> float:
    made.encode(batch)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < RUN_S:
        made.encode(batch)
        done += len(batch)
    return done / (time.perf_counter() - begun)


def flips(photos: Sequence[bytes]) -> dict[str, Any]:
    """One edit of every photo asks for all photos: whose verdict depends on the runtime?"""
    random = Random(7)  # noqa: S311 - edits, the same in every run
    edits = list(EDITS.values())
    originals, edited = [], []
    for content in photos:
        image = upright_rgb(Image.open(BytesIO(content)))
        originals.append(reduce(image))
        edited.append(reduce(random.choice(edits)(image, random)))
    on_cpu, on_gpu = load_encoder("torch"), choose_encoder("auto", None, Options()).encoder
    limits = [Calibration.load().review_threshold, Calibration.load().duplicate_threshold]
    rows, queries = np.stack(originals), np.stack(edited)
    one, other = _best(on_cpu, rows, queries), _best(on_gpu, rows, queries)
    cosines = (on_cpu.encode(rows) * on_gpu.encode(rows)).sum(axis=1)
    verdicts = np.digitize(one, limits), np.digitize(other, limits)
    return {
        "runtimes": [on_cpu.runtime, on_gpu.runtime],
        "queries": len(queries),
        "flips": int((verdicts[0] != verdicts[1]).sum()),
        "largest_score_difference": float(np.abs(one - other).max()),
        "lowest_cosine": float(cosines.min()),
    }


def _best(made: Encoder, rows: Pixels, queries: Pixels) -> Vector:
    """The best score of every query, rounded as the decision rounds it."""
    scores = Background.load().against(made.encode(rows))
    found = [scores(made.encode(queries[n : n + BATCH_MAX])).max(axis=1) for n in range(0, len(queries), BATCH_MAX)]
    best: Vector = np.concatenate(found).round(4)
    return best


def gpu_decode(photos: Sequence[bytes]) -> dict[str, Any]:
    """nvJPEG over the JPEGs in batches, reduced on the GPU: images/s, and how far the result is from `reduce`."""
    jpegs = [photo for photo in photos if photo.startswith(b"\xff\xd8\xff")]
    refused, differences = 0, []
    begun, done = 0.0, 0
    for number in range(0, len(jpegs), DECODE_BATCH):
        batch = jpegs[number : number + DECODE_BATCH]
        try:
            pictures = _on_gpu(batch)
        except RuntimeError:
            refused += len(batch)
            continue
        torch.cuda.synchronize()
        if number == 0:
            # The first batch brings the library's own start with it, and is the one that is compared.
            differences = [_difference(content, p) for content, p in zip(batch, pictures, strict=True)]
            begun = time.perf_counter()
        else:
            done += len(batch)
    taken_s = time.perf_counter() - begun
    return {
        "jpegs": len(jpegs),
        "in_refused_batches": refused,
        "images_per_s": done / taken_s if done else None,
        "mean_difference_of_255": float(np.mean(differences)) if differences else None,
    }


def _on_gpu(batch: Sequence[bytes]) -> list[torch.Tensor]:
    """uint8 [224, 224, 3] on the GPU for each; EXIF orientation is not heeded here."""
    from torchvision.io import ImageReadMode, decode_jpeg  # noqa: PLC0415 - see above

    encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in batch]
    small = []
    for picture in decode_jpeg(encoded, mode=ImageReadMode.RGB, device="cuda"):
        resized = torch.nn.functional.interpolate(
            picture[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        small.append(resized[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0))
    return small


def _difference(content: bytes, picture: torch.Tensor) -> float:
    expected = reduce(Image.open(BytesIO(content)))
    return float(np.abs(expected.astype(np.int16) - picture.cpu().numpy().astype(np.int16)).mean())


def stage(photos: Sequence[bytes]) -> dict[str, Any]:
    """ENCODE's loop, a decoder process a core and batches of 256."""
    from ops.bench.stage import stage_rate  # noqa: PLC0415 - see above
    from stream.config import Settings  # noqa: PLC0415

    cores = len(os.sched_getaffinity(0))
    settings = Settings().model_copy(
        update={
            "intake": Settings().intake.model_copy(update={"decoders": cores}),
            "encode": Settings().encode.model_copy(
                update={
                    "batch_items_max": BATCH_MAX,
                    "in_flight_items_max": 4 * BATCH_MAX,
                    "in_flight_bytes_max": 10**9,
                }
            ),
        }
    )
    made = choose_encoder("auto", None, Options(batch_items=BATCH_MAX)).encoder
    rate = stage_rate(settings, made, photos, STAGE_IMAGES)
    return {"runtime": made.runtime, "decoders": cores, "images_per_s": rate}
