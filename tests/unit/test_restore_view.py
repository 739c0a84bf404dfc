"""A restored judge knows what a judge knows that lived through the log; the index view never overstates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import LedgerEntry
from stream.errors import LedgerGap, PartitionCountChanged
from stream.indexview import IndexFellBack, IndexView, Pin
from stream.judge import Judge, Knowledge
from stream.kafka import Record
from stream.ledger import Restore, check_progress, remember
from stream.memory import Memory
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Link
from stream.progress import Progress
from stream.window import Window
from tests.support.made import at_similarity, fingerprint, random_vector, rule_of, work

PARTITION = 2
T0 = 1 << 40


class LogOfTransactions:
    """Stands for `LogReader`: entries, transaction markers, and an open transaction that settles later."""

    def __init__(self, entries: dict[int, LedgerEntry], end: int, slice_records: int, settles_after: int) -> None:
        self._entries = entries
        self._end = end
        self._slice = slice_records
        self._held = settles_after
        self._position = 0
        self.starts = 0

    def start(self, partition: int, offset: int) -> None:
        assert partition == PARTITION
        self.starts += 1
        self._position = offset

    def read(self, _records_max: int, _wait_s: float) -> tuple[list[Record], int | None]:
        stable = self._end if self._held <= 0 else self._end // 2
        self._held -= 1
        places = [o for o in sorted(self._entries) if self._position <= o < stable][: self._slice]
        if places:
            self._position = places[-1] + 1
            return [self._record(offset) for offset in places], None
        self._position = max(self._position, stable)
        return [], self._position

    def _record(self, offset: int) -> Record:
        return Record("ledger", PARTITION, offset, 0, [], self._entries[offset].model_dump_json().encode())


def lived_through(gaps: list[int]) -> tuple[dict[int, LedgerEntry], int]:
    """Ledger entries of made-up uploads, at offsets with gaps (markers, aborted records)."""
    judge = Judge(Window(10_000), Memory(10_000), rule_of)
    entries: dict[int, LedgerEntry] = {}
    offset = 0
    for n, gap in enumerate(gaps):
        vector = at_similarity(random_vector(n % 3), [0.99, 0.7, 0.1][gap % 3], seed=n)
        (outcome,) = judge.judge([work(fingerprint(n, vector))], Knowledge())
        assert outcome.entry is not None
        offset += gap
        entries[offset] = outcome.entry
        remember(outcome.entry, offset, judge.window, judge.memory)
        offset += 1
    return entries, offset + 1


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.integers(0, 160),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(0, 5),
)
def test_a_restored_judge_knows_what_the_last_one_knew(
    gaps: list[int], progress: int, remembered: int, slice_records: int, settles_after: int
) -> None:
    """R2, R3: window from the progress on, memory of the last entries, whatever the slices and markers.

    Break: end the restore at the first empty read.
    """
    entries, end = lived_through(gaps)
    progress = min(progress, end)
    start = max(0, min(progress, end - remembered))
    window, memory = Window(10_000), Memory(remembered)
    log = LogOfTransactions(entries, end, slice_records, settles_after)
    restore = Restore(log, PARTITION, start, end, progress, window, memory)  # type: ignore[arg-type]
    for _ in range(200):
        if restore.step(0.0):
            break
    else:
        pytest.fail("the restore does not end")
    expected = [o for o, e in entries.items() if o >= progress and e.representative is not None]
    found = window.nearest("t", random_vector(0)[None], ["none"], 1_000)[0]
    assert sorted(h.ledger_offset for h in found) == expected
    in_range = [o for o in entries if o >= start][-remembered:]
    for offset, entry in entries.items():
        assert memory.knows_source(entry.source) == (offset in in_range)


def test_an_empty_range_is_over_at_once() -> None:
    """A new ledger needs no read. Break: read before comparing."""
    restore = Restore(None, PARTITION, 5, 5, 5, Window(1), Memory(1))  # type: ignore[arg-type]
    assert restore.step(0.0)


@pytest.mark.parametrize(("progress", "low", "high"), [(None, 1, 9), (4, 5, 9), (10, 0, 9)])
def test_an_index_that_does_not_fit_the_ledger_stops_the_stage(progress: int | None, low: int, high: int) -> None:
    """R4: progress below the ledger's start or above its end is a gap, never a guess. Break: clamp it."""
    made = None if progress is None else Progress(link(0, progress), T0, 0, 1)
    with pytest.raises(LedgerGap, match="ledger"):
        check_progress(made, low, high)
    check_progress(None, 0, 9)
    check_progress(Progress(link(0, 9), T0, 0, 1), 0, 9)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def view_over(index: MemoryIndex, clock: Clock) -> IndexView:
    return IndexView(index, "ledger-1", 4, 0.4, clock)


def link(start: int, end: int, timestamp: int = T0, ledger: str = "ledger-1", partitions: int = 4) -> Link:
    return Link(ledger, PARTITION, partitions, start, end, timestamp)


def test_a_pin_is_old_enough_to_cost_no_wait() -> None:
    """The newest progress is pinned once it is 0.4 s old, not before. Break: pin `seen[-1]`."""
    index, clock = MemoryIndex(), Clock()
    view = view_over(index, clock)
    assert view.open(PARTITION) is None
    assert view.pin(PARTITION) == Pin(0, None, None)
    index.append_links([link(0, 5, T0)])
    view.refresh()
    assert view.pin(PARTITION) == Pin(5, T0, link(0, 5, T0))
    index.append_links([link(5, 8, T0 + 1)])
    view.refresh()
    assert view.pin(PARTITION) == Pin(5, T0, link(0, 5, T0))
    assert view.newest(PARTITION) == 8
    clock.now += 0.4
    assert view.pin(PARTITION) == Pin(8, T0 + 1, link(5, 8, T0 + 1))


def test_an_emptied_index_is_seen() -> None:
    """R4: progress below the pin throws the batch away. Break: return True in `_advance` when there is none."""
    index, clock = MemoryIndex(), Clock()
    view = view_over(index, clock)
    links = [link(0, 5), link(5, 9)]
    for one in links:
        index.append_links([one])
    view.open(PARTITION)
    index.delete_links(links[1:])
    with pytest.raises(IndexFellBack) as caught:
        view.refresh()
    assert caught.value.partitions == [PARTITION]


@pytest.mark.parametrize("reach", [9, 20])
def test_an_index_that_was_filled_anew_is_seen(reach: int) -> None:
    """R4: its chain reaches as far as before, but the searches came while its rows did not lie there yet. Once seen,
    the new chain is pinned. Break: leave `started_anew` out.
    """
    index, clock = Reads(), Clock()
    view = view_over(index, clock)
    index.append_links([link(0, 9, T0)])
    view.open(PARTITION)
    view.refresh()
    index.delete_links([link(0, 9, T0)])
    index.append_links([link(0, reach, T0 + 1)])
    with pytest.raises(IndexFellBack) as caught:
        view.refresh()
    assert caught.value.partitions == [PARTITION]
    view.close(PARTITION)
    view.open(PARTITION)
    assert view.pin(PARTITION) == Pin(reach, T0 + 1, link(0, reach, T0 + 1))
    view.refresh()
    before = len(index.read)
    view.refresh()
    assert len(index.read) == before + 1, "the links since the new pin are read alone"


class Reads(MemoryIndex):
    """Notes what is read of the links."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def links(self, *asked: Any, **named: Any) -> list[Link]:
        found = super().links(*asked, **named)
        self.read.append(len(found))
        return found


def test_a_stale_answer_is_no_loss() -> None:
    """A fast read may not show the newest link yet; one that waits for it decides. Break: believe the first read."""

    class Stale(MemoryIndex):
        def links(self, *asked: Any, bounded: bool = False) -> list[Link]:
            found = super().links(*asked, bounded=bounded)
            return found[:-1] if bounded else found

    index, clock = Stale(), Clock()
    view = view_over(index, clock)
    for n in range(3):
        index.append_links([link(n, n + 1, T0 + n)])
    view.open(PARTITION)
    view.refresh()
    assert view.pin(PARTITION) == Pin(3, T0 + 2, link(2, 3, T0 + 2))


def test_only_new_links_are_read() -> None:
    """A chain has hundreds of links, of every partition: reading them all took longer than judging. Now and then they
    are, and where the pinned link is gone. Breaks: never set `_whole_at_s`; set it for ever.
    """
    index, clock = Reads(), Clock()
    view = view_over(index, clock)
    for n in range(150):
        index.append_links([link(n, n + 1, T0 + n)])
    view.open(PARTITION)
    view.refresh()
    index.append_links([link(150, 160, T0 + 150)])
    view.refresh()
    assert index.read == [150, 150, 2]
    assert view.newest(PARTITION) == 160
    clock.now += 5
    view.refresh()
    assert index.read[3:] == [151]
    clock.now += 0.4
    assert view.pin(PARTITION).offset == 160
    index.delete_links([link(150, 160, T0 + 150)])
    with pytest.raises(IndexFellBack):
        view.refresh()
    assert index.read[4:] == [0, 150, 150]


def test_a_partition_without_progress_is_told_of_its_first_link() -> None:
    """Beside one that has some. Break: read only partitions with a pin."""
    index, clock = MemoryIndex(), Clock()
    view = view_over(index, clock)
    index.append_links([link(0, 5)])
    view.open(PARTITION)
    view.open(PARTITION + 1)
    view.refresh()
    index.append_links([replace(link(0, 3), ledger_partition=PARTITION + 1)])
    view.refresh()
    assert (view.newest(PARTITION), view.newest(PARTITION + 1)) == (5, 3)


def test_another_ledgers_index_stops_the_stage() -> None:
    """A re-created ledger, or another partition count, is never guessed over. Break: ignore `other_ledgers`."""
    for wrong, error in ((link(0, 5, ledger="ledger-0"), LedgerGap), (link(0, 5, partitions=6), PartitionCountChanged)):
        index = MemoryIndex()
        index.append_links([wrong])
        with pytest.raises(error):
            view_over(index, Clock()).open(PARTITION)
