"""A worker's products run in one thread: helpers that spin between them cost more than they save."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from stream.blas import one_blas_thread
from threadpoolctl import threadpool_info
{call}
print(*(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"))
"""


def threads_of(call: str, **environment: str) -> set[str]:
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    made = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    return set(made.stdout.split())


def test_products_are_made_in_one_thread() -> None:
    """Break: limit before numpy is loaded."""
    assert threads_of("one_blas_thread()") <= {"1"}


def test_what_the_environment_sets_stays() -> None:
    """Break: do not look."""
    chosen = {"OPENBLAS_NUM_THREADS": "2"}
    assert threads_of("one_blas_thread()", **chosen) == threads_of("", **chosen)
