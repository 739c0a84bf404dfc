"""The batcher: closes on size, on bytes or on the first deadline of its items. Pure: the caller brings the clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# From this age on an upload waits longer for company, by a tenth of what exceeds it.
LATE_S = 0.25
LONGER = 0.1


def fill_wait_s(age_s: float, wait_s: float, late_s: float) -> float:
    """How long a batch may be filled, at `wait_s` the least and `late_s` the most.

    A batch costs requests and a transaction, whatever is in it. When uploads are late because the machine does not
    keep up, fuller batches make it faster: a tenth more delay for them adapts to any load.
    """
    return max(wait_s, min(late_s, LONGER * (age_s - LATE_S)))


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
    """

    def __init__(self, items_max: int, bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._waiting: deque[_Waiting[T]] = deque()
        self._byte_count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: T, byte_count: int, deadline_s: float) -> None:
        """Take an item that waits for company until its deadline at the latest."""
        self._waiting.append(_Waiting(item, byte_count, deadline_s))
        self._byte_count += byte_count

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `take` has a batch, 0 when it has one now, None when nothing waits."""
        if not self._waiting:
            return None
        if len(self._waiting) >= self._items_max or self._byte_count >= self._bytes_max:
            return 0.0
        return max(0.0, min(waiting.deadline_s for waiting in self._waiting) - now_s)

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
