"""Promise: PDQ hashes are the standard ones, near for small edits and far for other pictures."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pdqhash
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.perceptual import hamming, pdq
from models.preprocess import reduce, to_rgb

PHOTOS = [Path(skimage.__file__).parent / "data" / name for name in ("astronaut.png", "chelsea.png", "coffee.png")]
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)


def test_hash_is_the_standard_one() -> None:
    """The hexadecimal digits are the ones other PDQ tools print. Break: `bitorder="little"` in packbits."""
    pixels = reduce(Image.open(PHOTOS[0]))
    bits, quality = pdqhash.compute(pixels)
    assert pdq(pixels) == (f"{int(''.join(map(str, bits)), 2):064x}", quality)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_small_edits_stay_near(path: Path) -> None:
    """JPEG at 40 and half size move at most 31 of 256 bits (PDQ's usual limit); so does reducing first."""
    photo = to_rgb(Image.open(path))
    buffer = BytesIO()
    photo.resize((photo.width // 2, photo.height // 2)).save(buffer, "JPEG", quality=40)
    original = pdq(reduce(photo))
    assert hamming(original.hash, pdq(reduce(Image.open(buffer))).hash) <= 31
    assert hamming(original.hash, pdq(np.asarray(photo)).hash) <= 24
    assert original.quality >= 50


def test_other_photos_are_far() -> None:
    """Unrelated photos differ in far more than 31 bits. Break: return a constant hash."""
    made = [pdq(reduce(Image.open(path))).hash for path in PHOTOS]
    assert min(hamming(made[0], made[1]), hamming(made[0], made[2]), hamming(made[1], made[2])) > 80


def test_flat_picture_has_no_quality() -> None:
    """A picture without detail says so, and nobody takes its hash for evidence."""
    assert pdq(np.full((64, 64, 3), 200, dtype=np.uint8)).quality == 0


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (1, 8, 8, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Only [H, W, 3] is hashed. Break: drop the check."""
    with pytest.raises(ValueError, match="PDQ takes"):
        pdq(np.zeros(shape, dtype=np.uint8))


@given(hashes, hashes)
def test_hamming_counts_bits(one: str, other: str) -> None:
    """The distance is the plain count of differing bits. Break: `&` in place of `^`."""
    plain = sum(a != b for a, b in zip(f"{int(one, 16):0256b}", f"{int(other, 16):0256b}", strict=True))
    assert hamming(one, other) == hamming(other, one) == plain


def test_hashes_of_other_length_are_refused() -> None:
    """A truncated hash is never near anything. Break: drop the check."""
    with pytest.raises(ValueError, match="cannot be compared"):
        hamming("00", "0000")
