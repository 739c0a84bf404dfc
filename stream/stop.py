"""The word to stop, and since when it is out."""

from __future__ import annotations

import time
from threading import Event


class Stop(Event):
    """The first `set` counts: the drain's time begins with it, whatever a stage is waiting for."""

    def __init__(self) -> None:
        super().__init__()
        self._since_s = float("inf")

    def set(self) -> None:
        self._since_s = min(self._since_s, time.monotonic())
        super().set()

    def for_s(self) -> float:
        """How long ago it was set, in seconds; below 0 when it is not."""
        return time.monotonic() - self._since_s
