"""What computes embeddings; each module is the only one that imports its third party at serving time."""

from __future__ import annotations

import numpy as np

from models.preprocess import SIDE, Pixels


def checked(images: Pixels) -> Pixels:
    """The batch itself, contiguous.

    Raises:
        ValueError: not uint8 [N, 224, 224, 3].
    """
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(f"the encoder takes uint8 [N, {SIDE}, {SIDE}, 3], got {images.dtype} {list(images.shape)}")
    return np.ascontiguousarray(images)
