"""What ENCODE holds is counted to the byte, bounded, and given up with its partition."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import SourcePosition
from stream.inflight import InFlight
from stream.kafka import Record
from stream.prepare import Prepared

IMAGE_BYTES = 1_000
LARGEST = 1_500


def upload(partition: int, offset: int, size: int = 100) -> Prepared:
    """A reference of `size` bytes, whose image is being fetched."""
    record = Record("uploads", partition, offset, 1_000 + offset, [], b"x" * size)
    item = Prepared(record, SourcePosition(topic_id="t", partition=partition, offset=offset), b"acme")
    item.charged_bytes = item.record_bytes + IMAGE_BYTES
    return item


def opened(*partitions: int, items_max: int = 5, bytes_max: int = 5_000) -> InFlight:
    made = InFlight(items_max, bytes_max, LARGEST)
    for partition in partitions:
        made.open(partition)
    return made


@given(st.lists(st.integers(0, 400), max_size=30), st.randoms(use_true_random=False))
def test_the_bytes_are_those_of_what_is_held(sizes: list[int], rng: random.Random) -> None:
    """R8: in whatever order uploads are decoded, finished and given up.

    Breaks: leave a finished one's bytes; charge a decoded one's image on; leave the bytes of what is given up.
    """
    held = opened(0, 1, 2)
    left = [upload(n % 3, n, size) for n, size in enumerate(sizes)]
    for item in left:
        held.take(item)
    while left:
        assert held.byte_count == sum(item.charged_bytes for item in left)
        assert len(held) == len(left)
        assert held.oldest_ms == min(item.record.timestamp_ms for item in left)
        item = rng.choice(left)
        act = rng.choice(("decode", "finish", "forget"))
        if act == "decode":
            held.decoded(item)
            assert item.charged_bytes == item.record_bytes
        elif act == "finish":
            held.finish(item)
            left.remove(item)
        else:
            gone = [one for one in left if one.record.partition == item.record.partition]
            held.forget([item.record.partition])
            assert all(one.cancelled for one in gone)
            left = [one for one in left if one not in gone]
        assert not any(one.cancelled for one in left)
    assert (held.byte_count, held.oldest_ms, len(held)) == (0, 0, 0)


def test_there_is_room_for_the_largest_alone() -> None:
    """R8: by count and by bytes, whichever ends first. Breaks: leave out either."""
    by_bytes = opened(0)
    assert by_bytes.room == 3
    by_bytes.take(upload(0, 0, 900))
    assert by_bytes.room == 2
    by_count = opened(0, items_max=2)
    for offset in range(3):
        assert by_count.room == 2 - offset
        by_count.take(upload(0, offset, 0))


def test_what_is_committed_is_done_and_owned() -> None:
    """R1: the finished prefix of each partition that is not given up, once. Break: answer for committed ones again."""
    held = opened(0, 1)
    items = [upload(0, 4), upload(0, 7), upload(1, 2)]
    assert held.positions == {}
    for item in items:
        held.take(item)
    assert held.positions == {0: 8, 1: 3}
    held.finish(items[1])
    held.finish(items[2])
    assert held.to_commit([0, 1, 5]) == {1: 3}
    held.finish(items[0])
    held.committed({1: 3})
    assert held.to_commit([0, 1]) == {0: 8}
    held.forget([0])
    assert held.to_commit([0, 1]) == {}
    assert held.partitions == [1]


def test_a_partition_that_comes_back_is_read_anew() -> None:
    """What an earlier ownership left in work is not this one's. Break: compare places alone in `holds`."""
    held = opened(0)
    before, again = upload(0, 3), upload(0, 3)
    held.take(before)
    held.forget([0])
    assert not held.holds(before)
    held.open(0)
    held.take(again)
    assert held.holds(again)
    assert not held.holds(before)
