"""What work costs: CPU time and memory of processes and of all they started, by the kernel's accounting."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil


def cpu_s(pids: Iterable[int]) -> float:
    """User and system seconds of these processes, of their children, and of children that have ended."""
    return sum(_own_s(process) for pid in pids for process in _tree(pid))


def resident_bytes(pid: int) -> int:
    """Resident set of a process alone, its children not counted; 0 when it is gone."""
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


@dataclass
class Meter:
    """Wall and CPU seconds between its making and `read`, by group of processes."""

    groups: dict[str, list[int]]
    _before: dict[str, float] = field(init=False)
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = {name: cpu_s(pids) for name, pids in self.groups.items()}
        self._begun = time.perf_counter()

    def read(self) -> tuple[float, dict[str, float]]:
        """(wall seconds, CPU seconds by group)."""
        wall_s = time.perf_counter() - self._begun
        return wall_s, {name: cpu_s(pids) - self._before[name] for name, pids in self.groups.items()}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _own_s(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
