"""Since when a worker is told to stop."""

from __future__ import annotations

import time

from stream.stop import Stop


def test_the_first_word_counts() -> None:
    """A second signal gives no more time. Break: keep the last."""
    stop = Stop()
    assert stop.for_s() < 0
    stop.set()
    time.sleep(0.05)
    stop.set()
    assert stop.is_set()
    assert stop.for_s() >= 0.05
