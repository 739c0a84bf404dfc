"""Contiguous offsets: a partition's commit never passes an item that is still in work."""

from __future__ import annotations

from collections import deque


class ContiguousOffsets:
    """One partition. Items are taken in offset order and finish in any order."""

    def __init__(self) -> None:
        self._taken: deque[int] = deque()
        self._open: set[int] = set()
        self._next = -1
        self._committed = -1

    @property
    def in_flight(self) -> int:
        return len(self._open)

    @property
    def position(self) -> int | None:
        """The offset after the last one taken; None before the first."""
        return self._next if self._next >= 0 else None

    def take(self, offset: int) -> None:
        """An item enters.

        Raises:
            ValueError: it is not after the last one; a seek starts with a new object.
        """
        if offset < self._next:
            raise ValueError(f"offset {offset} after {self._next - 1}")
        if self._next < 0:
            self._committed = offset
        self._taken.append(offset)
        self._open.add(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """An item's result is safe.

        Raises:
            KeyError: it was never taken, or finished before.
        """
        self._open.remove(offset)
        while self._taken and self._taken[0] not in self._open:
            self._taken.popleft()

    def to_commit(self) -> int | None:
        """The first offset that is not finished, None when that is committed already."""
        end = self._taken[0] if self._taken else self._next
        return end if end > self._committed else None

    def committed(self, offset: int) -> None:
        """The broker has this offset."""
        self._committed = offset
