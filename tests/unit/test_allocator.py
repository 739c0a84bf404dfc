"""R8: large blocks that a worker has freed are the system's again, whatever small ones lie between."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Blocks of 1 MB with small ones between them, which stay; prints the MB that are left.
PROGRAM = """
import os
from ops.allocator import give_back_large_blocks
{call}
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
bytearray(4 << 20)
before = resident()
large, small = [], []
for n in range(200):
    large.append(bytearray(1 << 20))
    small.append(bytearray(5_000))
del large
print((resident() - before) >> 20)
"""


def left_mb(call: str, **environment: str) -> int:
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    made = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return int(made.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_large_blocks_are_given_back() -> None:
    """Of 200 MB nearly nothing stays; without the call all of it does. Break: set nothing, or the numbers' signs."""
    assert left_mb("give_back_large_blocks()") < 10
    assert left_mb("") > 100


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_the_environment_sets_stays() -> None:
    """An operator's own value wins, whichever of glibc's two ways it is given. Break: do not look."""
    assert left_mb("give_back_large_blocks()", MALLOC_MMAP_THRESHOLD_=str(16 << 20)) > 100
    assert left_mb("give_back_large_blocks()", GLIBC_TUNABLES=f"glibc.malloc.mmap_threshold={16 << 20}") > 100
