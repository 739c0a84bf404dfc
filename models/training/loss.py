"""What training lowers: contrastive loss over views, and an entropy term that spreads the space.

Source: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection" (SSCD, 2022); the entropy term is the
Kozachenko-Leonenko estimator, Sablayrolles et al., "Spreading Vectors for Similarity Search" (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TEMPERATURE = 0.05
ENTROPY_WEIGHT = 1.0
_APART_MIN = 1e-6


class Queue:
    """Embeddings of earlier batches, as further negatives: float32 [size, 256], the oldest replaced first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: Tensor | None = None
        self._owners: Tensor | None = None

    def push(self, vectors: Tensor, owners: Tensor) -> None:
        """Keep these. `owners` are the photos they show."""
        vectors, owners = vectors.detach(), owners.detach()
        if self._vectors is not None and self._owners is not None:
            vectors, owners = torch.cat([vectors, self._vectors]), torch.cat([owners, self._owners])
        self._vectors, self._owners = vectors[: self._size], owners[: self._size]

    def items(self) -> tuple[Tensor, Tensor] | None:
        """Vectors and owners, or None while it is empty."""
        return None if self._vectors is None or self._owners is None else (self._vectors, self._owners)


def contrastive(views: Tensor, owners: Tensor, queue: Queue) -> Tensor:
    """InfoNCE over every pair of views of a photo: one must find the other among all views of other photos.

    Args:
        views: float32 [V, N, 256] of unit length, V of them of each photo.
        owners: int64 [N], the photos.
    """
    count = len(views)
    every, owned = views.flatten(0, 1), owners.repeat(count)
    others, theirs = every, owned
    earlier = queue.items()
    if earlier is not None:
        others, theirs = torch.cat([every, earlier[0]]), torch.cat([owned, earlier[1]])
    logits = every @ others.T / TEMPERATURE
    # Other views of the same photo (itself, or from an earlier round) are no negatives.
    same = owned[:, None] == theirs[None, :]
    negatives = logits.masked_fill(same, float("-inf")).logsumexp(dim=1).view(count, -1)
    terms = [
        nn.functional.softplus(negatives[one] - (views[one] * views[other]).sum(dim=-1) / TEMPERATURE)
        for one in range(count)
        for other in range(count)
        if one != other
    ]
    return torch.stack(terms).mean()


def entropy(vectors: Tensor, owners: Tensor) -> Tensor:
    """Minus the mean log distance to the nearest view of another photo."""
    cosines = vectors @ vectors.T
    same = owners[:, None] == owners[None, :]
    nearest = cosines.masked_fill(same, -1.0).max(dim=1).values
    return -torch.log((2 - 2 * nearest).clamp(min=_APART_MIN).sqrt()).mean()


def loss(views: Tensor, owners: Tensor, queue: Queue) -> Tensor:
    """The sum of both terms, for views [V, N, 256]; the views join the queue."""
    every, owned = views.flatten(0, 1), owners.repeat(len(views))
    total = contrastive(views, owners, queue) + ENTROPY_WEIGHT * entropy(every, owned)
    queue.push(every, owned)
    return total
