"""The batcher: closes on size, on bytes or on the oldest item's deadline. Pure: the caller brings the clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    item: T
    byte_count: int
    deadline_s: float


class Batcher(Generic[T]):
    """Items leave in the order they came, none twice and none lost.

    Args:
        items_max: a batch never has more items.
        bytes_max: a batch never has more bytes, unless one item alone does.
        wait_s: an item waits at most this long for company.
    """

    def __init__(self, items_max: int, bytes_max: int, wait_s: float) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._wait_s = wait_s
        self._waiting: deque[_Waiting[T]] = deque()
        self._byte_count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: T, byte_count: int, now_s: float) -> None:
        self._waiting.append(_Waiting(item, byte_count, now_s + self._wait_s))
        self._byte_count += byte_count

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `take` has a batch, 0 when it has one now, None when nothing waits."""
        if not self._waiting:
            return None
        if len(self._waiting) >= self._items_max or self._byte_count >= self._bytes_max:
            return 0.0
        return max(0.0, self._waiting[0].deadline_s - now_s)

    def take(self, now_s: float, *, drain: bool = False) -> list[T]:
        """The next batch if it is due (or anything waits and `drain` is set), else an empty list."""
        if not self._waiting or (not drain and self.wait_s(now_s) != 0.0):
            return []
        batch: list[T] = []
        byte_count = 0
        while self._waiting and len(batch) < self._items_max:
            first = self._waiting[0]
            if batch and byte_count + first.byte_count > self._bytes_max:
                break
            self._waiting.popleft()
            batch.append(first.item)
            byte_count += first.byte_count
        self._byte_count -= byte_count
        return batch

    def clear(self) -> None:
        self._waiting.clear()
        self._byte_count = 0
