"""What training lowers: contrastive loss over two views, and an entropy term that spreads the space.

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


def contrastive(first: Tensor, second: Tensor, owners: Tensor, queue: Queue) -> Tensor:
    """InfoNCE, both ways: each view must find the other among all views of other photos.

    Args:
        first, second: float32 [N, 256] of unit length, row n of both showing photo `owners[n]`.
    """
    views = torch.cat([first, second])
    owned = torch.cat([owners, owners])
    others, theirs = views, owned
    earlier = queue.items()
    if earlier is not None:
        others, theirs = torch.cat([views, earlier[0]]), torch.cat([owned, earlier[1]])
    logits = views @ others.T / TEMPERATURE
    count = len(first)
    targets = torch.cat([torch.arange(count, 2 * count), torch.arange(count)]).to(views.device)
    # Other views of the same photo (itself, or from an earlier round) are no negatives.
    same = owned[:, None] == theirs[None, :]
    same[torch.arange(2 * count), targets] = False
    return nn.functional.cross_entropy(logits.masked_fill(same, float("-inf")), targets)


def entropy(vectors: Tensor, owners: Tensor) -> Tensor:
    """Minus the mean log distance to the nearest view of another photo."""
    cosines = vectors @ vectors.T
    same = owners[:, None] == owners[None, :]
    nearest = cosines.masked_fill(same, -1.0).max(dim=1).values
    return -torch.log((2 - 2 * nearest).clamp(min=_APART_MIN).sqrt()).mean()


def loss(first: Tensor, second: Tensor, owners: Tensor, queue: Queue) -> Tensor:
    """The sum of both terms; the views join the queue."""
    total = contrastive(first, second, owners, queue)
    views, owned = torch.cat([first, second]), torch.cat([owners, owners])
    total = total + ENTROPY_WEIGHT * entropy(views, owned)
    queue.push(views, owned)
    return total
