"""Batch sizes that a GPU computes: few and fixed, so that each has its own CUDA graph. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BUCKETS = (1, 8, 32, 64, 128, 256)
BATCH_MAX = BUCKETS[-1]


def bucket_of(items: int) -> int:
    """The smallest bucket that holds so many pictures; the largest when none does."""
    return next((bucket for bucket in BUCKETS if bucket >= items), BATCH_MAX)


def buckets_for(batch_items: int) -> tuple[int, ...]:
    """The buckets that batches of at most so many pictures need, ascending."""
    return BUCKETS[: BUCKETS.index(bucket_of(batch_items)) + 1]


def parts_of(items: int, buckets: tuple[int, ...]) -> list[tuple[slice, int]]:
    """A batch cut into parts, each with the bucket that computes it.

    Args:
        items: pictures in the batch, 0 or more.
        buckets: those there are, ascending.
    """
    largest = buckets[-1]
    parts = []
    for begin in range(0, items, largest):
        end = min(items, begin + largest)
        parts.append((slice(begin, end), next(bucket for bucket in buckets if bucket >= end - begin)))
    return parts


@dataclass(frozen=True, slots=True)
class Profile:
    """Batch sizes that an engine takes, and the one its kernels are chosen for."""

    least: int
    optimum: int
    most: int


def profile_for(batch_items: int) -> Profile:
    """One engine takes every bucket; its kernels are chosen for the batch size in use.

    Args:
        batch_items: `encode.batch_items_max`.
    """
    return Profile(least=1, optimum=bucket_of(batch_items), most=BATCH_MAX)
