"""R12: what dejaview is compared with is what others use."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image

from models.evaluation.baselines import HASHES, as_row, imagenet_input, lbp_dct, local_binary_pattern
from models.perceptual import pdq
from tests.support.photos import photo

NAMES = ("coffee.png", "chelsea.png", "rocket.jpg")


def test_a_row_compares_as_the_hash_does() -> None:
    """1 - 2 * differing bits / all. Break: leave out the square root."""
    one, other = (np.random.default_rng(seed).integers(0, 2, 256).astype(bool) for seed in (1, 2))
    assert as_row(one) @ as_row(other) == pytest.approx(1 - 2 * (one != other).sum() / 256, abs=1e-5)


def test_hashes_are_the_libraries() -> None:
    """PDQ as its own program makes it (`test_models_perceptual.py`), the others of imagehash. Break: swap two."""
    image = photo("coffee.png")
    assert np.packbits(HASHES["PDQ"](image) > 0).tobytes().hex() == pdq(np.asarray(image)).hash
    named = {
        "pHash": imagehash.phash,
        "dHash": imagehash.dhash,
        "aHash": imagehash.average_hash,
        "wHash": imagehash.whash,
    }
    for name, function in named.items():
        assert np.array_equal(HASHES[name](image) > 0, function(image).hash.ravel())


def test_local_binary_pattern_by_hand() -> None:
    """A bright right side sets the neighbours to the right; the corners are bilinear; a flat picture sets all.

    Break: take the wrong sign for y.
    """
    edge = np.zeros((3, 3))
    edge[:, 2] = 100.0
    edge[1, 1] = 50.0
    # Right, upper right and lower right are places 0, 1 and 7.
    assert local_binary_pattern(edge)[0, 0] == 1 + 2 + 128
    assert local_binary_pattern(np.full((5, 4), 7.0)).tolist() == [[255.0] * 2] * 3
    top = np.zeros((3, 3))
    top[0] = 100.0
    top[1, 1] = 50.0
    assert local_binary_pattern(top)[0, 0] == 2 + 4 + 8


def test_lbp_dct_finds_a_recompressed_picture_and_tells_others_apart() -> None:
    """64 bits, near for the same picture saved smaller, far for another. Break: hash the pixels' mean alone."""
    hashes = [lbp_dct(photo(name)) for name in NAMES]
    again = [lbp_dct(photo(name).resize((200, 150), Image.Resampling.BICUBIC)) for name in NAMES]
    cosines = np.stack(hashes) @ np.stack(again).T
    assert cosines.shape == (3, 3)
    assert (cosines.argmax(axis=1) == np.arange(3)).all()
    assert cosines.diagonal().min() > 0.5
    assert len(hashes[0]) == 64


@pytest.mark.parametrize("size", [(640, 427), (100, 300), (224, 224)])
def test_imagenet_input_is_the_middle(size: tuple[int, int]) -> None:
    """Short side 256, of that the middle 224: left and right of a wide picture are not in it. Break: squeeze."""
    image = Image.new("RGB", size, "black")
    image.paste("white", (size[0] // 2 - 2, 0, size[0] // 2 + 2, size[1]))
    cut = imagenet_input(image)
    assert cut.shape == (224, 224, 3)
    columns = np.flatnonzero(cut[112, :, 0] > 100)
    assert abs(columns.mean() - 111.5) < 2


def test_every_hash_takes_any_picture() -> None:
    """One colour, tiny, very wide: a row of length 1 each. Break: divide by the picture's deviation."""
    for image in (Image.new("RGB", (300, 200), "red"), Image.new("RGB", (9, 9)), Image.new("RGB", (900, 20), "white")):
        for name, function in HASHES.items():
            assert np.linalg.norm(function(image)) == pytest.approx(1, abs=1e-4), name
