"""Which partition is read no more although its log goes on. Pure: who asks for the log's end is `Reading`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SILENT_S = 20.0
# Between two looks at a partition that is behind.
CONFIRMED_S = 5.0
# Looks are requests; many partitions may be idle at once.
LOOK_EVERY_S = 0.5
# After a look that failed: the broker may be away, and each try may take its whole time limit.
FAILED_WAIT_S = 10.0
# A partition that was taken anew in vain is left alone for twice as long, so many times: it may have gigabytes of
# aborted records to pass, which bring neither a record nor an end.
DOUBLED_MAX = 6


@dataclass(frozen=True, slots=True)
class Look:
    """What is known when a partition's end is asked for.

    Attributes:
        behind: its end lies behind where it is read.
        end: its end.
        nothing_came: the last poll brought nothing, so that the local queue is empty.
        fetched: how far each partition has been fetched, by the last answer to a fetch.
    """

    behind: bool
    end: int
    nothing_came: bool
    fetched: Mapping[int, int]


@dataclass(slots=True)
class _Watched:
    heard_s: float
    looked_s: float
    # The first look that found it behind, the last one, and how many in a row say that it is not fetched.
    first: Look | None = None
    last: Look | None = None
    confirmed: int = 0


class Silence:
    """The partitions that are being read, and how long each has said nothing: no record, no end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._in_vain: dict[int, int] = {}
        self._look_at_s = 0.0

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
        """A record, or an end."""
        self._in_vain.pop(partition, None)
        self.begins(partition)

    def begins(self, partition: int) -> None:
        """It is read from another place."""
        if partition in self._watched:
            now = self._clock()
            self._watched[partition] = _Watched(now, now)

    def revived(self, partition: int) -> None:
        """It was taken anew; whether that helped is seen when it is heard."""
        self._in_vain[partition] = min(DOUBLED_MAX, self._in_vain.get(partition, 0) + 1)
        self.begins(partition)

    def due(self) -> int | None:
        """The partition whose end should be asked for now, if any: one that was behind before any other, then the one
        looked at longest ago.
        """
        now = self._clock()
        if now < self._look_at_s:
            return None
        ready = [
            (watched.first is None, watched.looked_s, partition)
            for partition, watched in self._watched.items()
            if now - watched.looked_s >= (self._patience_s(partition) if watched.first is None else CONFIRMED_S)
        ]
        if not ready:
            return None
        self._look_at_s = now + LOOK_EVERY_S
        partition = min(ready)[2]
        self._watched[partition].looked_s = now
        return partition

    def failed(self) -> None:
        """The last look brought no answer."""
        self._look_at_s = self._clock() + FAILED_WAIT_S

    def stalled(self, partition: int, look: Look) -> bool:
        """Whether a partition stands still: it is behind at three looks in a row, and at the last two is not fetched.

        It is not fetched when the local queue is empty, or when an answer has brought others forward and not it. While
        the queue is full nobody is fetched, and a partition may be silent because others' records stand before its own.
        """
        watched = self._watched[partition]
        first, last = watched.first, watched.last
        if not look.behind:
            watched.first, watched.last, watched.confirmed = None, None, 0
            return False
        watched.first, watched.last = first or look, look
        if first is None or last is None:
            return False
        others = any(end > last.fetched.get(p, end) for p, end in look.fetched.items() if p != partition)
        left_out = others and look.fetched.get(partition, 0) < first.end
        watched.confirmed = watched.confirmed + 1 if look.nothing_came or left_out else 0
        return watched.confirmed > 1

    def silent_s(self, partition: int) -> float:
        """Seconds since it was heard."""
        return self._clock() - self._watched[partition].heard_s

    def _patience_s(self, partition: int) -> float:
        return SILENT_S * float(1 << self._in_vain.get(partition, 0))
