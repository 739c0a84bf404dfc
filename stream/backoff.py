"""Back-off without sleeping: the loop goes on polling while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_WAIT_S = 0.1


class Backoff:
    """Doubles the wait after each failure, up to `wait_max_s`."""

    def __init__(self, wait_max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_max_s = wait_max_s
        self._clock = clock
        self._wait_s = 0.0
        self._until_s = 0.0

    def failed(self) -> None:
        self._wait_s = min(self._wait_max_s, max(FIRST_WAIT_S, 2 * self._wait_s))
        self._until_s = self._clock() + self._wait_s

    def waiting(self) -> bool:
        return self._clock() < self._until_s

    def reset(self) -> None:
        self._wait_s = 0.0
