"""PDQ, a perceptual hash that says on its own that two pictures are near-identical.

Source: Facebook's "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (2019).

All of it up to the comparison is linear in the picture's brightness, and the same along rows and columns: products with
two small matrices. That takes less than half the time of the usual library, which is published as source only.

A picture that changes in one direction alone (stripes, a barcode) has no frequencies that PDQ looks at. Its bits are
what rounding leaves, here as in PDQ's own program; here its quality is 0, so that nobody takes them for evidence.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Two pictures agree at this many differing bits or fewer, where both have this much detail or more.
DISTANCE_MAX = 31
QUALITY_MIN = 50
# What agreement adds to a score: so much for equal hashes, in proportion less to nothing at this many differing bits.
# Of 2,921 pairs that look alike and are no copies two in a thousand are nearer, and none gets near a threshold by it.
WEIGHT = 0.8
FARTHEST = 90

# The paper's numbers.
_SIDE_MIN = 5
_SMALL_SIDE = 64
_FREQUENCIES = 16
_QUALITY_DIVISOR = 90
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SIZES_KEPT = 64
# Of frequencies, in units of brightness (0 to 255): stripes leave 1e-3, photos 100 and more.
_ROUNDING = 0.1

_Matrix: TypeAlias = NDArray[np.float32]


class Pdq(NamedTuple):
    """A PDQ hash: 256 bits as 64 hexadecimal digits, and how much detail the picture has (0 to 100)."""

    hash: str
    quality: int


def pdq(rgb: NDArray[np.uint8]) -> Pdq:
    """PDQ of uint8 [H, W, 3], best of `preprocess.reduce`: square and small, and as near to the large picture's as any.

    Raises:
        ValueError: another shape or type.
    """
    if rgb.dtype != np.uint8 or rgb.shape[2:] != (3,):
        raise ValueError(f"PDQ takes uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    height, width = rgb.shape[:2]
    if min(height, width) < _SIDE_MIN:
        return Pdq("0" * 64, 0)
    small = _shrinking(height) @ (rgb.astype(np.float32) @ _BRIGHTNESS) @ _shrinking(width).T
    frequencies = (_COSINES @ small @ _COSINES.T).ravel()
    # The lower of the two values in the middle; the highest frequency comes first.
    middle = frequencies.size // 2 - 1
    bits = (frequencies > np.partition(frequencies, middle)[middle])[::-1]
    quality = _quality(small) if np.ptp(frequencies) >= _ROUNDING else 0
    return Pdq(np.packbits(bits).tobytes().hex(), quality)


def _quality(small: _Matrix) -> int:
    """How much brightness changes from one of 64 x 64 points to the next, changes below a hundredth left out."""
    steps = (np.trunc(np.diff(small, axis=axis) * np.float32(100 / 255)) for axis in (0, 1))
    return min(100, int(sum(float(np.abs(step).sum()) for step in steps)) // _QUALITY_DIVISOR)


@lru_cache(_SIZES_KEPT)
def _shrinking(side: int) -> _Matrix:
    """float32 [64, side]: 64 points of what two means over neighbours leave, as many as half a point stands for."""
    window = -(-side // (2 * _SMALL_SIDE))
    ahead = (window + 2) // 2
    around = [range(max(0, place - window + ahead), min(side, place + ahead)) for place in range(side)]
    shrinking = np.zeros((_SMALL_SIDE, side), dtype=np.float32)
    for number, row in enumerate(shrinking):
        near = around[int((number + 0.5) * side / _SMALL_SIDE)]
        for place in near:
            row[around[place].start : around[place].stop] += 1 / (len(near) * len(around[place]))
    return shrinking


def _cosines() -> _Matrix:
    """float32 [16, 64]: the discrete cosine transform's lowest frequencies but the constant."""
    frequency, place = np.arange(1, _FREQUENCIES + 1), 2 * np.arange(_SMALL_SIDE) + 1
    waves: _Matrix = np.cos(np.pi / (2 * _SMALL_SIDE) * np.outer(frequency, place)).astype(np.float32)
    return waves * np.float32(np.sqrt(2 / _SMALL_SIDE))


_COSINES = _cosines()


def agreement(distance: int) -> float:
    """What two pictures of enough detail add to their score, by how many bits of their hashes differ."""
    return WEIGHT * max(0.0, 1 - distance / FARTHEST)


def hamming(a_hex: str, b_hex: str) -> int:
    """How many of the 256 bits of two hashes differ.

    Raises:
        ValueError: not two hexadecimal hashes of the same length.
    """
    if len(a_hex) != len(b_hex):
        raise ValueError(f"hashes of {len(a_hex)} and {len(b_hex)} digits cannot be compared")
    return (int(a_hex, 16) ^ int(b_hex, 16)).bit_count()
