"""Commits never pass work in hand; batches are bounded, ordered and lose nothing."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.batcher import Batcher, fill_wait_s
from stream.offsets import ContiguousOffsets


@given(st.lists(st.integers(1, 4), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_the_commit_is_the_finished_prefix(gaps: list[int], rng: random.Random) -> None:
    """R1: an offset is committed only when all before it are finished. Break: return `_next` in `to_commit`."""
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    tracker = ContiguousOffsets()
    for offset in offsets:
        tracker.take(offset)
    assert tracker.to_commit() is None
    order = list(offsets)
    rng.shuffle(order)
    finished: set[int] = set()
    committed = offsets[0]
    for offset in order:
        tracker.finish(offset)
        finished.add(offset)
        open_ones = [o for o in offsets if o not in finished]
        expected = min(open_ones) if open_ones else offsets[-1] + 1
        assert tracker.to_commit() == (expected if expected > committed else None)
        if (due := tracker.to_commit()) is not None:
            tracker.committed(due)
            committed = due
    assert tracker.in_flight == 0


def test_an_offset_is_taken_and_finished_once() -> None:
    """A forgotten seek shows itself. Break: drop the check in `take`."""
    tracker = ContiguousOffsets()
    tracker.take(5)
    with pytest.raises(ValueError, match="after 5"):
        tracker.take(5)
    tracker.finish(5)
    with pytest.raises(KeyError):
        tracker.finish(5)


arrivals = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=80)


@given(arrivals, st.integers(1, 16), st.integers(1, 500), st.integers(0, 50))
def test_batches_are_bounded_and_keep_order(
    made: list[tuple[int, int]], items_max: int, bytes_max: int, wait: int
) -> None:
    """R8: no batch above its limits, none lost, none twice. Break: drop the byte check in `take`."""
    batcher: Batcher[int] = Batcher(items_max, bytes_max)
    now, out = 0.0, []
    for n, (byte_count, step) in enumerate(made):
        now += step
        batcher.add(n, byte_count, now + wait)
        while batch := batcher.take(now):
            assert len(batch) <= items_max
            assert len(batch) == 1 or sum(made[i][0] for i in batch) <= bytes_max
            out += batch
    while batch := batcher.take(now, drain=True):
        out += batch
    assert out == list(range(len(made)))
    assert len(batcher) == 0


def test_a_batch_closes_on_size_bytes_or_the_first_deadline() -> None:
    """Nobody waits longer than told. Break: use the oldest item's deadline in `wait_s`."""
    batcher: Batcher[str] = Batcher(3, 100)
    assert batcher.wait_s(0) is None
    batcher.add("a", 1, 40)
    batcher.add("b", 1, 10)
    assert batcher.wait_s(9) == 1
    assert batcher.take(9) == []
    assert batcher.take(10) == ["a", "b"]
    batcher.add("big", 100, 30)
    assert batcher.take(20) == ["big"]
    for name in "xyz":
        batcher.add(name, 1, 40)
    assert batcher.take(30) == ["x", "y", "z"]


def test_batches_fill_longer_when_uploads_are_late() -> None:
    """R8: past saturation fuller batches make up for it; on time nobody waits for that. Break: drop `max` or `min`."""
    waits = [fill_wait_s(age, 0.002, 0.1) for age in (-5.0, 0.0, 0.25, 0.75, 1.25, 60.0, math.inf)]
    assert waits == pytest.approx([0.002, 0.002, 0.002, 0.05, 0.1, 0.1, 0.1])
