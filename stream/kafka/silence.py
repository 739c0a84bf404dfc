"""Which partition is read no more although its log goes on. Pure: who asks for the log's end is `Reading`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SILENT_S = 20.0
# Between two looks at a partition that is behind.
CONFIRMED_S = 5.0
# What a partition that is behind waits for its fetch at most; then it is in the local queue.
FETCHED_S = 1.0
# Looks are requests; many partitions may be idle at once.
LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class _Watched:
    heard_s: float
    looked_s: float
    # Since when it was seen behind, and how far all partitions had been fetched then.
    behind_s: float | None = None
    fetched: Mapping[int, int] | None = None


class Silence:
    """The partitions that are being read, and how long each has said nothing: no record, no end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._look_at_s = 0.0
        self._emptied_s = 0.0

    def watch(self, partitions: Iterable[int]) -> None:
        """They are read from now on."""
        now = self._clock()
        for partition in partitions:
            self._watched.setdefault(partition, _Watched(now, now))

    def leave(self, partitions: Iterable[int]) -> None:
        """They are not read: paused, or another member's."""
        for partition in partitions:
            self._watched.pop(partition, None)

    def heard(self, partition: int) -> None:
        if partition in self._watched:
            now = self._clock()
            self._watched[partition] = _Watched(now, now)

    def emptied(self) -> None:
        """The local queue is empty."""
        self._emptied_s = self._clock()

    def due(self) -> int | None:
        """The partition whose end should be asked for now, if any: one that was behind before any other, then the one
        looked at longest ago.
        """
        now = self._clock()
        if now < self._look_at_s:
            return None
        ready = [
            (watched.behind_s is None, watched.looked_s, partition)
            for partition, watched in self._watched.items()
            if now - watched.looked_s >= (SILENT_S if watched.behind_s is None else CONFIRMED_S)
        ]
        if not ready:
            return None
        self._look_at_s = now + LOOK_EVERY_S
        return min(ready)[2]

    def stalled(self, partition: int, *, behind: bool, fetched: Mapping[int, int], places: Mapping[int, int]) -> bool:
        """Whether a partition stands still, after a look at its end.

        It is behind at two looks, and what was fetched before the first of them has left the local queue since: a
        partition may also be silent because others' records stand before its own.

        Args:
            partition: one that was `due`.
            behind: whether its end lies behind where it is read.
            fetched: how far each partition has been fetched.
            places: where each partition is read on.
        """
        watched, now = self._watched[partition], self._clock()
        watched.looked_s = now
        if not behind:
            watched.behind_s = watched.fetched = None
            return False
        if watched.behind_s is None or watched.fetched is None:
            watched.behind_s, watched.fetched = now, fetched
            return False
        newer = any(places.get(p, 0) > end for p, end in watched.fetched.items() if p != partition)
        return newer or self._emptied_s > watched.behind_s + FETCHED_S

    def silent_s(self, partition: int) -> float:
        """Seconds since it was heard."""
        return self._clock() - self._watched[partition].heard_s
