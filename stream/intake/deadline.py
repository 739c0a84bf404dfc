"""One deadline for a whole fetch, from the first look-up to the last byte."""

from __future__ import annotations

import time

from stream.errors import StoreUnavailable


class Deadline:
    """A moment `limit_s` from now."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._end = time.monotonic() + limit_s

    def left_s(self) -> float:
        """Seconds left, more than 0.

        Raises:
            StoreUnavailable: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise StoreUnavailable(f"the store took longer than intake.fetch_timeout_s ({self._limit_s:g} s)")
        return left
