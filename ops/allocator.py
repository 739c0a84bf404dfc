"""glibc's allocator, told to give large blocks back.

A worker holds photographs of megabytes for moments, in many threads. By default glibc serves them from heaps of its
own once it has seen one freed, and small blocks that live longer pin these heaps: ENCODE's resident memory went from
190 to 405 MB in 14 minutes with 20 faults of Kafka, and stayed at 175 MB with what is set here (`docs/reliability.md`).
"""

from __future__ import annotations

import ctypes
import os

# Numbers and both environment names of mallopt(3); in bytes, the last a count.
_SETTINGS = (
    (-3, "MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold=", 256 * 1024),
    (-1, "MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold=", 1024 * 1024),
    (-8, "MALLOC_ARENA_MAX", "glibc.malloc.arena_max=", 4),
)


def give_back_large_blocks() -> None:
    """Set the thresholds of this process, early: heaps that exist stay. What the environment sets is left alone.

    Where the C library is another one, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for parameter, name, tunable, value in _SETTINGS:
        if name not in os.environ and tunable not in tunables:
            mallopt(parameter, value)
