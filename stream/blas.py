"""One thread for numpy's products.

OpenBLAS's helper threads spin for some 25 ms after a product before they sleep. Stages multiply small matrices every
few milliseconds, so that a helper never slept: two thirds of a core, 60 % of a worker's CPU (`ops/bench/NOTES.md`).
"""

from __future__ import annotations

import os

import numpy as np  # noqa: F401 - what is not loaded yet cannot be limited
from threadpoolctl import threadpool_limits

_CHOSEN = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def one_blas_thread() -> None:
    """For the rest of this process. A number of threads that the environment sets is left alone."""
    if not any(name in os.environ for name in _CHOSEN):
        threadpool_limits(1, user_api="blas")
