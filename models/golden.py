"""Golden vectors: pictures made by a formula, and what the reference runtime makes of them.

The pictures are integer arithmetic only, so that every machine draws the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import GOLDEN, read_manifest, verified
from models.preprocess import SIDE, Pixels
from schemas.events import Vector
from stream.errors import ParityFailed

PICTURES = 16
COSINE_MIN = 0.999
NORM_OFF_MAX = 1e-3

_MASK = np.uint64(0xFFFFFFFF)


def pictures() -> Pixels:
    """uint8 [16, 224, 224, 3]: gradients, stripes, discs, boxes and noise, mixed differently in each."""
    return np.stack([_picture(seed) for seed in range(1, PICTURES + 1)])


def _picture(seed: int) -> Pixels:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.int64)
    # The channels differ in every layer: swapped channels must not pass.
    channels = [_channel(y, x, seed, channel) for channel in range(3)]
    picture = np.stack(channels, axis=-1)
    for number in range(3 + seed % 4):
        _place(picture, y, x, _hash(seed * 97 + number))
    noise = _noise(seed).astype(np.int64) % (1 + 8 * (seed % 5))
    drawn: Pixels = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return drawn


def _channel(y: NDArray[np.int64], x: NDArray[np.int64], seed: int, channel: int) -> NDArray[np.int64]:
    """A slanted gradient under a slow wave; slope, phase and period come from the seed."""
    draw = _hash(seed * 7 + channel)
    slope_x, slope_y, period = draw % 5, (draw >> 4) % 5, 16 + (draw >> 8) % 96
    ramp = (slope_x * x + slope_y * y + (draw >> 16) % 256) * 255 // (SIDE * 8)
    wave = np.abs((x * (1 + channel) + y * (seed % 3)) % period - period // 2) * 120 // period
    values: NDArray[np.int64] = (ramp + wave) % 256
    return values


def _place(picture: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64], draw: int) -> None:
    """Paint one disc or box."""
    centre_x, centre_y, radius = draw % SIDE, (draw >> 8) % SIDE, 12 + (draw >> 16) % 50
    if draw & 1:
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2
    else:
        inside = (np.abs(x - centre_x) < radius) & (np.abs(y - centre_y) < radius // 2 + 4)
    picture[inside] = (_hash(draw) % 256, _hash(draw + 1) % 256, _hash(draw + 2) % 256)


def _noise(seed: int) -> NDArray[np.uint64]:
    """One pseudo-random number for each value, by multiply and xor-shift."""
    values = np.arange(SIDE * SIDE * 3, dtype=np.uint64) + np.uint64(seed * 1_000_003)
    for factor in (0x7FEB352D, 0x846CA68B):
        values = ((values ^ (values >> np.uint64(15))) * np.uint64(factor)) & _MASK
    return (values ^ (values >> np.uint64(16))).reshape(SIDE, SIDE, 3)


def _hash(value: int) -> int:
    """32 pseudo-random bits of an integer."""
    for factor in (0x7FEB352D, 0x846CA68B):
        value = ((value ^ (value >> 15)) * factor) & 0xFFFFFFFF
    return value ^ (value >> 16)


def write_golden(folder: Path, encode: Callable[[Pixels], Vector]) -> None:
    """Keep the reference runtime's embeddings of `pictures()`."""
    drawn = pictures()
    np.savez(folder / GOLDEN, embeddings=encode(drawn), pictures_sha256=np.array(_sha256(drawn)))


def check_parity(
    folder: Path, runtime: str, encode: Callable[[Pixels], Vector], batches: Sequence[int] = (PICTURES,)
) -> None:
    """Compare a runtime's embeddings of `pictures()` with the reference's.

    Args:
        batches: how many pictures at once; of more than there are, they are repeated.

    Raises:
        SettingError: the file of golden vectors is missing or damaged.
        ParityFailed: a cosine is below 0.999, or the embeddings are not of unit length.
    """
    content = verified(folder, read_manifest(folder), (GOLDEN,))[GOLDEN]
    with np.load(BytesIO(content), allow_pickle=False) as golden:
        expected, sha256 = golden["embeddings"], str(golden["pictures_sha256"])
    drawn = pictures()
    if _sha256(drawn) != sha256:
        raise ParityFailed(f"{folder / GOLDEN} was made from other golden pictures; export the weights again")
    for items in batches:
        places = np.arange(items) % len(drawn)
        _compare(folder, runtime, encode(drawn[places]), expected[places])


def _compare(folder: Path, runtime: str, embeddings: Vector, expected: Vector) -> None:
    if embeddings.shape != expected.shape:
        raise ParityFailed(f"{runtime} returned {list(embeddings.shape)} for {list(expected.shape)}")
    worst = float((embeddings * expected).sum(axis=1).min())
    norm_off = float(np.abs(np.linalg.norm(embeddings, axis=1) - 1.0).max())
    # Written so that NaN fails too.
    if not (worst >= COSINE_MIN and norm_off < NORM_OFF_MAX):
        raise ParityFailed(
            f"{runtime} does not reproduce the golden vectors of {folder.name}: lowest cosine {worst:.4f} (at least "
            f"{COSINE_MIN}) in a batch of {len(expected)}, norm off by {norm_off:.4f}; try another model.runtime"
        )


def _sha256(drawn: Pixels) -> str:
    """Tells a changed formula from a changed runtime."""
    return hashlib.sha256(drawn.tobytes()).hexdigest()
