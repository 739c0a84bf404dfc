"""What processes really hold: resident set sizes over time, of workers and of their decoder processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int) -> int:
    """Resident set size (statm: shared pages of libraries count in full); 0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def children_of(pid: int) -> list[int]:
    """The processes that any thread of this one started."""
    try:
        return [int(n) for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]
    except OSError:
        return []


@dataclass
class Samples:
    """One process: when, and how many bytes."""

    times_s: list[float] = field(default_factory=list)
    byte_counts: list[int] = field(default_factory=list)

    def add(self, time_s: float, byte_count: int) -> None:
        self.times_s.append(time_s)
        self.byte_counts.append(byte_count)

    @property
    def lived_s(self) -> float:
        return self.times_s[-1] - self.times_s[0] if self.times_s else 0.0

    @property
    def peak_bytes(self) -> int:
        return max(self.byte_counts, default=0)

    def slope_bytes_per_s(self, share: float = 0.5) -> float:
        """The least-squares slope over the last part of its life."""
        since = self.times_s[-1] - share * self.lived_s
        points = [(t, b) for t, b in zip(self.times_s, self.byte_counts, strict=True) if t >= since]
        times, counts = np.array(points, dtype=np.float64).T
        return float(np.polyfit(times - times[0], counts, 1)[0])


class MemoryWatch:
    """Samples processes until it is closed. Use as a context manager."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], interval_s: float = 0.1) -> None:
        """Watch these workers.

        Args:
            pids: name to pid of the workers that run now; asked for every sample.
        """
        self._pids = pids
        self._interval_s = interval_s
        # By (worker, pid): a worker that starts again is another process.
        self.workers: dict[tuple[str, int], Samples] = {}
        self.decoders: dict[tuple[str, int], Samples] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peaks(self, of: Mapping[tuple[str, int], Samples]) -> dict[str, int]:
        """Megabytes at most, by worker."""
        found: dict[str, int] = {}
        for (name, _), samples in of.items():
            found[name] = max(found.get(name, 0), samples.peak_bytes // 1_000_000)
        return found

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            now = time.monotonic()
            for name, pid in dict(self._pids()).items():
                self._sample(self.workers, (name, pid), now)
                for child in children_of(pid):
                    self._sample(self.decoders, (name, child), now)

    @staticmethod
    def _sample(into: dict[tuple[str, int], Samples], key: tuple[str, int], now: float) -> None:
        byte_count = rss_bytes(key[1])
        if byte_count:
            into.setdefault(key, Samples()).add(now, byte_count)
