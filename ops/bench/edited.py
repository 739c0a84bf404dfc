"""Pictures for the GPU benchmark, made by all cores. Imports no torch: its processes start in a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from itertools import cycle, islice
from multiprocessing import get_context
from random import Random
from time import perf_counter
from typing import TypeVar

import numpy as np
from PIL import Image

from models.edits import EDITS
from models.preprocess import Pixels, reduce, upright_rgb
from ops.bench.photos import as_by_a_phone
from stream.config import IntakeSettings
from stream.intake.decode import Decoded, decode
from stream.intake.sandbox import limits_of

Made = TypeVar("Made")

QUALITY = 90


def pairs(photos: Sequence[bytes]) -> tuple[Pixels, Pixels]:
    """Every photo and an edit of it, as the encoder takes them; the same in every run."""
    made = _spread(_pair, list(enumerate(photos)))
    return np.stack([original for original, _ in made]), np.stack([edited for _, edited in made])


def as_jpegs(photos: Sequence[bytes]) -> list[bytes]:
    """The same pictures as JPEGs."""
    return _spread(_jpeg, photos)


def as_phone_jpegs(photos: Sequence[bytes]) -> list[bytes]:
    """The same pictures as JPEGs of 12 megapixels."""
    return _spread(_phone_jpeg, photos)


def decoded(photos: Sequence[bytes]) -> list[Decoded]:
    """What ENCODE's decoders make of these."""
    return _spread(_decoded, photos)


def decode_rate(photos: Sequence[bytes]) -> float:
    """Images/s that all cores decode without a sandbox, as ENCODE's decoders do."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, get_context("spawn")) as processes:
        # They import before the clock starts.
        list(processes.map(_decode, islice(cycle(photos), 64 * cores)))
        begun = perf_counter()
        list(processes.map(_decode, photos, chunksize=8))
        return len(photos) / (perf_counter() - begun)


def _spread(work: Callable[..., Made], items: Sequence[object]) -> list[Made]:
    # Spawned: a process that is forked beside CUDA or threads may hang.
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as processes:
        return list(processes.map(work, items, chunksize=max(1, min(32, len(items) // 64))))


def _pair(numbered: tuple[int, bytes]) -> tuple[Pixels, Pixels]:
    number, content = numbered
    random = Random(number)  # noqa: S311 - edits, the same in every run
    image = upright_rgb(Image.open(BytesIO(content)))
    return reduce(image), reduce(random.choice(list(EDITS.values()))(image, random))


def _jpeg(content: bytes) -> bytes:
    out = BytesIO()
    upright_rgb(Image.open(BytesIO(content))).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _phone_jpeg(content: bytes) -> bytes:
    return as_by_a_phone([content], 1)[0]


def _decode(content: bytes) -> None:
    _decoded(content)


def _decoded(content: bytes) -> Decoded:
    return decode(content, limits_of(IntakeSettings()))
