"""What others would use: perceptual hashes, and features of a network that was trained for something else.

Every method makes a row of float32 of unit length, so that one product compares all with all: a hash of n bits
becomes n values of +-1/sqrt(n), and the product is 1 - 2 * (differing bits) / n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.perceptual import QUALITY_MIN, Pdq, pdq
from models.preprocess import to_rgb
from schemas.events import Vector

Hash: TypeAlias = Callable[[Image.Image], Vector]

_LBP_SIDE = 64
_LBP_NEIGHBOURS = 8
_KEPT = 8
_IMAGENET_SHORT, _IMAGENET_SIDE = 256, 224


def as_row(bits: NDArray[np.bool_]) -> Vector:
    """Bits -> float32 of length 1."""
    return np.where(bits.ravel(), 1.0, -1.0).astype(np.float32) / np.float32(math.sqrt(bits.size))


def _pdq(image: Image.Image) -> Vector:
    return _row_of(pdq(np.asarray(to_rgb(image))))


def trusted_row(made: Pdq) -> Vector:
    """As the decision takes it: zeros, near to nothing, where the picture has too little detail for PDQ."""
    return _row_of(made) * np.float32(made.quality >= QUALITY_MIN)


def _row_of(made: Pdq) -> Vector:
    return as_row(np.unpackbits(np.frombuffer(bytes.fromhex(made.hash), dtype=np.uint8)).astype(bool))


def _of_imagehash(name: str) -> Hash:
    def made(image: Image.Image) -> Vector:
        import imagehash  # noqa: PLC0415 - of the extra `eval`

        return as_row(getattr(imagehash, name)(image).hash)

    return made


@cache
def _dct_rows(side: int) -> NDArray[np.float64]:
    """The first 8 rows of the DCT-II matrix of this size."""
    k, n = np.mgrid[0:_KEPT, 0:side]
    rows: NDArray[np.float64] = np.cos(math.pi * (2 * n + 1) * k / (2 * side))
    return rows


def local_binary_pattern(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Circular LBP, 8 neighbours at radius 1, bilinear; [H, W] -> [H - 2, W - 2], 0 to 255.

    Source: Ojala, Pietikäinen and Mäenpää, "Multiresolution Gray-Scale and Rotation Invariant Texture Classification
    with Local Binary Patterns" (2002).
    """
    height, width = grey.shape
    centre = grey[1:-1, 1:-1]
    code = np.zeros_like(centre)
    for place in range(_LBP_NEIGHBOURS):
        angle = 2 * math.pi * place / _LBP_NEIGHBOURS
        dy, dx = round(-math.sin(angle), 9), round(math.cos(angle), 9)
        top, left = math.floor(dy), math.floor(dx)
        fy, fx = dy - top, dx - left

        def shifted(y: int, x: int) -> NDArray[np.float64]:
            return grey[1 + y : height - 1 + y, 1 + x : width - 1 + x]

        low, right = min(top + 1, 1), min(left + 1, 1)
        upper = (1 - fx) * shifted(top, left) + fx * shifted(top, right)
        lower = (1 - fx) * shifted(low, left) + fx * shifted(low, right)
        code += ((1 - fy) * upper + fy * lower >= centre) * 2.0**place
    return code


def lbp_dct(image: Image.Image) -> Vector:
    """64 bits: small, smoothed and grey, its local binary pattern, of that the 8 x 8 lowest frequencies, each above
    their mean or not. Source: Chen et al., LBP-DCT hashing (2021), as far as its summary says: side and blur are ours.
    """
    small = image.convert("L").resize((_LBP_SIDE, _LBP_SIDE), Image.Resampling.BILINEAR)
    pattern = local_binary_pattern(np.asarray(small.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64))
    rows = _dct_rows(len(pattern))
    low = rows @ pattern @ rows.T
    # The constant part is far above all others and would make the mean its own.
    return as_row(low > low.ravel()[1:].mean())


HASHES: dict[str, Hash] = {
    "PDQ": _pdq,
    "pHash": _of_imagehash("phash"),
    "dHash": _of_imagehash("dhash"),
    "aHash": _of_imagehash("average_hash"),
    "wHash": _of_imagehash("whash"),
    "LBP-DCT": lbp_dct,
}


def imagenet_input(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 [224, 224, 3] as imagededup cuts it: short side 256, the middle."""
    scale = _IMAGENET_SHORT / min(image.size)
    size = (max(_IMAGENET_SIDE, round(image.width * scale)), max(_IMAGENET_SIDE, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - _IMAGENET_SIDE) // 2, (size[1] - _IMAGENET_SIDE) // 2
    return np.asarray(small.crop((left, top, left + _IMAGENET_SIDE, top + _IMAGENET_SIDE)), dtype=np.uint8)


def imagenet_features(weights: Path) -> Callable[[NDArray[np.uint8]], Vector]:
    """uint8 [N, 224, 224, 3] -> float32 [N, 576]: MobileNetV3-small, average pooled, unit length.

    Args:
        weights: torchvision's tensors for inputs of x / 127.5 - 1, as a checkpoint.
    """
    import torch  # noqa: PLC0415 - of the extra `torch`
    from torchvision.models import mobilenet_v3_small  # noqa: PLC0415

    network = mobilenet_v3_small(weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    features = network.features.eval()

    def encode(images: NDArray[np.uint8]) -> Vector:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
            pooled = features(pixels.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
            vectors: Vector = torch.nn.functional.normalize(pooled).numpy()
        return vectors

    return encode
