"""Whitening folded into the projection: directions in which all pictures differ alike count less, at no cost.

A contrastive loss leaves few directions with most of the spread; those say what kind of picture it is, the others
which. Measured on the tuning photos: recall at precision .99 from .874 to .915, on edits never trained on from .84 to
.94. Source: Jégou and Chum, "Negative Evidences and Co-occurrences in Image Retrieval: the Benefit of PCA and
Whitening" (2012); the power below 1 is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from schemas.events import Vector

POWER = 0.75
_WEIGHT, _BIAS = "projection.weight", "projection.bias"


def whitened(state: Mapping[str, Tensor], outputs: Vector, power: float = POWER) -> dict[str, Tensor]:
    """The same network with another projection.

    Args:
        outputs: float32 [N, 256] of the projection, before they are brought to unit length, of training photos.
        power: each principal direction is divided by its deviation to this power; 0 turns only, 1 whitens.

    Raises:
        ValueError: fewer outputs than dimensions.
    """
    if len(outputs) <= outputs.shape[1]:
        raise ValueError(f"{len(outputs)} outputs cannot tell the spread of {outputs.shape[1]} dimensions")
    centre = outputs.mean(axis=0, dtype=np.float64)
    _, deviations, directions = np.linalg.svd(outputs - centre, full_matrices=False)
    turn = torch.from_numpy(directions * (deviations / deviations[0])[:, None] ** -power)
    weight, bias = state[_WEIGHT].double(), state[_BIAS].double()
    return {
        **state,
        _WEIGHT: (turn @ weight).float().contiguous(),
        _BIAS: (turn @ (bias - torch.from_numpy(centre))).float().contiguous(),
    }
