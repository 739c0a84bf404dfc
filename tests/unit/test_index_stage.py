"""INDEX: whatever fails between rows and link, the index ends up with every row once and a chain that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import stream.index
import stream.progress
from schemas.events import LedgerEntry
from stream.config import Settings
from stream.errors import IndexUnavailable, LedgerGap
from stream.health import Health
from stream.index import IndexStage
from stream.judge import Judge, Knowledge
from stream.kafka import Record
from stream.memory import Memory
from stream.metrics import Metrics
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import STRONG, Found, Link, Row
from stream.progress import chain_end
from stream.window import Window
from tests.support.made import fingerprint, random_vector, rule_of, work

LEDGER = "ledger-1"


def ledger(count: int, partitions: int = 1) -> list[Record]:
    """Ledger records of made-up unique uploads, with a gap for a marker after every third of a partition."""
    judge = Judge(Window(10_000), Memory(10_000), rule_of)
    outcomes = judge.judge([work(fingerprint(n, random_vector(n))) for n in range(count)], Knowledge())
    entries = [outcome.entry for outcome in outcomes if isinstance(outcome.entry, LedgerEntry)]
    places = [divmod(n, partitions) for n in range(count)]
    return [
        Record("ledger", partition, n + n // 3, 0, [], entry.model_dump_json().encode())
        for (n, partition), entry in zip(places, entries, strict=True)
    ]


class ScriptedConsumer:
    """Stands for `GroupConsumer` over a fixed log."""

    revived = 0

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._position: dict[int, int] = {}
        self._resumed: set[int] = set()
        self.seeks: list[int] = []
        self.committed: dict[int, int] = {}

    def poll(self, records_max: int, _first_wait_s: float, _fill_wait_s: float) -> list[Record]:
        """Four records of each partition."""
        found = []
        for partition in sorted(self._resumed & self._position.keys()):
            at = self._position[partition]
            own = [r for r in self._records if r.partition == partition and r.offset >= at][: min(records_max, 4)]
            if own:
                self._position[partition] = own[-1].offset + 1
            found += own
        return found

    def start_offset(self, _partition: int, _first_start: str) -> int:
        return 0

    def seek(self, partition: int, offset: int) -> None:
        self._position[partition] = offset
        self.seeks.append(offset)

    def pause(self, partitions: Sequence[int]) -> None:
        self._resumed.difference_update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        self._resumed.update(partitions)

    def commit(self, offsets: dict[int, int]) -> None:
        self.committed.update(offsets)

    def end(self, _partition: int) -> int:
        return 0

    def lag(self, _partition: int, position: int) -> int:
        return max(0, self._records[-1].offset + 1 - position)


class Ends:
    """Stands for `LogReader`: knows where the ledger ends."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._high = records[-1].offset + 1 if records else 0

    def ends(self, _partition: int) -> tuple[int, int]:
        return 0, self._high


class Watched(MemoryIndex):
    """A plain index that counts inserts and can be made to fail before a link."""

    def __init__(self) -> None:
        super().__init__()
        self.inserted: list[str] = []
        self.before_link: Callable[[Link], None] = lambda _link: None

    def clear(self) -> None:
        """Everything is gone, as after a dropped collection."""
        MemoryIndex.__init__(self)

    def clear_before_link(self, step: int) -> None:
        """Everything goes between the rows and the link of the n-th step, counted from 1."""
        left = [step]

        def empty(_link: Link) -> None:
            left[0] -= 1
            if left[0] == 0:
                self.clear()

        self.before_link = empty

    def insert(self, rows: Sequence[Row]) -> int:
        self.inserted += [row.row_id for row in rows]
        return super().insert(rows)

    def append_links(self, links: Sequence[Link]) -> int:
        for link in links:
            if link.start != link.end:
                self.before_link(link)
        return super().append_links(links)


class Counting(MemoryIndex):
    """A plain index that notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in {"links", "insert", "append_links", "get"}:
            self.calls.append(name)
        return super().__getattribute__(name)


def stage_over(
    index: MemoryIndex, records: Sequence[Record], partitions: int = 1, **values: float
) -> tuple[IndexStage, ScriptedConsumer]:
    settings = Settings(index={"retry_wait_max_s": 0.001}, ledger_index={"check_interval_s": 0.001, **values})
    metrics, health = Metrics(CollectorRegistry()), Health(60)
    stage = IndexStage(settings, index, Ends(records), LEDGER, partitions, metrics, health)  # type: ignore[arg-type]
    stage.assigned(range(partitions))
    return stage, ScriptedConsumer(records)


def run(stage: IndexStage, consumer: ScriptedConsumer, index: MemoryIndex, records: Sequence[Record]) -> None:
    """Turn until the chain reaches the log's end."""
    for _ in range(5_000):
        stage.turn(consumer)  # type: ignore[arg-type]
        progress = chain_end(index.links(LEDGER, {0: 0}, STRONG))
        if progress is not None and progress.offset == records[-1].offset + 1:
            return
    pytest.fail("INDEX does not reach the end of the ledger")


def fill(stage: IndexStage, consumer: ScriptedConsumer, index: Watched, records: Sequence[Record]) -> None:
    """Turn until every row is there: a failure is followed by a wait."""
    for _ in range(5_000):
        stage.turn(consumer)  # type: ignore[arg-type]
        if len(index._rows) == len(records):
            return
    pytest.fail(f"{len(index._rows)} of {len(records)} rows")


def assert_whole(index: Watched, records: Sequence[Record]) -> None:
    ids = [LedgerEntry.model_validate_json(r.value or b"").representative.row_id for r in records]  # type: ignore[union-attr]
    assert set(index.get(ids, STRONG)) == set(ids)
    assert index.count_rows() == len(ids)


def test_every_row_is_inserted_once_and_offsets_are_committed() -> None:
    """Without faults: every representative once, the chain at the end. Break: link before insert (see the next)."""
    records, index = ledger(20), Watched()
    stage, consumer = stage_over(index, records)
    run(stage, consumer, index, records)
    assert_whole(index, records)
    assert len(index.inserted) == 20
    assert consumer.committed == {0: records[-1].offset + 1}


@pytest.mark.parametrize("failing", range(1, 6))
def test_a_failure_between_rows_and_link_repeats_no_row(failing: int) -> None:
    """The link of the n-th step fails four times: rows are inserted once. Break: drop `_new_rows`."""
    records, index = ledger(20), Watched()
    left = [failing, 4]

    def fail(_link: Link) -> None:
        left[0] -= 1
        if left[0] <= 0 < left[1]:
            left[1] -= 1
            raise IndexUnavailable("made up")

    index.before_link = fail
    stage, consumer = stage_over(index, records)
    run(stage, consumer, index, records)
    assert left[1] == 0
    assert_whole(index, records)
    assert len(index.inserted) == 20


def test_links_of_many_partitions_are_one_request() -> None:
    """INDEX would fall behind by the number of partitions otherwise. Break: a request for each link."""
    records, index = ledger(36, partitions=3), Counting()
    stage, consumer = stage_over(index, records, 3)
    for _ in range(3):  # the partitions are opened, and the first two steps looked at
        stage.turn(consumer)  # type: ignore[arg-type]
    index.calls.clear()
    stage.turn(consumer)  # type: ignore[arg-type]
    assert index.calls == ["links", "insert", "append_links"]
    for partition in range(3):
        progress = chain_end(index.links(LEDGER, {partition: 0}, STRONG))
        assert progress is not None
        assert progress.offset == consumer.committed[partition] == 15


@pytest.mark.parametrize("lost", [0, 2])
def test_all_links_of_a_batch_are_taken_back_when_rows_of_one_are_gone(lost: int) -> None:
    """R4: rows of one partition's first step go between the rows and the links, and who knows what of the others.

    Breaks, each tried: take back only the lost link in `_check_steps`; look only the first one's row up.
    """
    records, index = ledger(24, partitions=3), Watched()
    stage, consumer = stage_over(index, records, 3)
    stage.turn(consumer)  # type: ignore[arg-type]
    linked: list[Link] = []

    def lose(link: Link) -> None:
        if not linked:
            for row in [row for row in index._rows.values() if row.ledger_partition == lost]:
                del index._rows[row.row_id]
        linked.append(link)

    index.before_link = lose
    stage.turn(consumer)  # type: ignore[arg-type]
    assert len(linked) == 3
    assert all(link.start == link.end for link in index.links(LEDGER, None, STRONG))
    fill(stage, consumer, index, records)


@pytest.mark.parametrize("dies", [False, True])
def test_a_first_step_that_was_not_looked_at_is_gone_again(dies: bool) -> None:
    """R4: emptied between rows and links, and no answer, or a crash, before the rows are looked up: a chain that
    begins at 0 looks whole. Break: `unproven` finds nothing.
    """
    records, index = ledger(24, partitions=3), Watched()
    stage, consumer = stage_over(index, records, 3)
    stage.turn(consumer)  # type: ignore[arg-type]

    def no_answer(*_: object) -> dict[str, Found]:
        raise IndexUnavailable("made up")

    def empty(_link: Link) -> None:
        index.clear()
        index.before_link = lambda _link: None
        index.get = no_answer  # type: ignore[method-assign,assignment]

    index.before_link = empty
    stage.turn(consumer)  # type: ignore[arg-type]
    assert chain_end(index.links(LEDGER, {0: 0}, STRONG)).offset == 5  # type: ignore[union-attr]
    index.get = partial(MemoryIndex.get, index)  # type: ignore[method-assign]
    if dies:
        stage, consumer = stage_over(index, records, 3)
    fill(stage, consumer, index, records)


def test_a_partition_is_not_opened_while_a_link_is_not_found() -> None:
    """The canary of `/readyz`, of each partition. Break: look for the first link only in `_prove`."""
    records, index = ledger(24, partitions=3), Watched()
    kept, index.append_links = index.append_links, lambda links: kept(links[:2])  # type: ignore[method-assign]
    stage, consumer = stage_over(index, records, 3)
    stage.turn(consumer)  # type: ignore[arg-type]
    assert index.links(LEDGER, None, STRONG) != []
    assert consumer.seeks == []
    index.append_links = kept  # type: ignore[method-assign]
    fill(stage, consumer, index, records)


@pytest.mark.parametrize("step", range(1, 6))
def test_an_index_emptied_before_a_link_is_filled_again(step: int) -> None:
    """R4: emptied between the rows and the link of the n-th step, the first and the last included.

    Break: drop `_check_steps` (n = 1), or the check of an idle stage (n = 5).
    """
    records, index = ledger(20), Watched()
    index.clear_before_link(step)
    stage, consumer = stage_over(index, records)
    run(stage, consumer, index, records)
    assert_whole(index, records)


@pytest.mark.parametrize("step", [2, 9, 10, 11, 12, 20])
def test_an_index_emptied_between_two_looks_at_whole_chains_is_filled_again(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """R4: what INDEX writes until it notices is no chain, and its rows are not there twice afterwards.

    Breaks: a `WHOLE_EVERY` above `CHAIN_LINKS_KEPT`; forget in `_open` how far the links reached that it takes back.
    """
    monkeypatch.setattr(stream.progress, "CHAIN_LINKS_KEPT", 10)
    records, index = ledger(160), Watched()
    index.clear_before_link(step)
    stage, consumer = stage_over(index, records)
    run(stage, consumer, index, records)
    assert_whole(index, records)


def test_an_emptied_index_is_noticed_at_the_next_write() -> None:
    """R4: whichever it is, nothing is written past what is gone. Break: look at whole chains alone."""
    for steps in range(1, 12):
        records, index = ledger(80), Watched()
        stage, consumer = stage_over(index, records)
        for _ in range(1 + steps):
            stage.turn(consumer)  # type: ignore[arg-type]
        assert len(index.inserted) == 4 * steps
        index.clear()
        index.inserted = []
        stage.turn(consumer)  # type: ignore[arg-type]
        assert index.inserted == []
        assert index.links(LEDGER, None, STRONG) == []


def test_needless_links_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain would be read ever more slowly. Break: delete none."""
    monkeypatch.setattr(stream.progress, "CHAIN_LINKS_KEPT", 5)
    records, index = ledger(160), Watched()
    stage, consumer = stage_over(index, records, links_deleted_at_once=1)
    run(stage, consumer, index, records)
    assert len(index.links(LEDGER, None, STRONG)) <= 5 + stream.index.WHOLE_EVERY + 2
    assert_whole(index, records)


def test_whole_chains_are_read_before_one_write_in_ten() -> None:
    """With many partitions and a hundred links of each they are the dearest part of a step. Break: read them always."""
    records, index = ledger(160), Watched()
    asked: list[Any] = []
    stage, consumer = stage_over(index, records)
    kept = index.links

    def noted(topic_id: str | None, since: Any, guarantee: int | None) -> list[Link]:
        asked.append(since)
        return kept(topic_id, since, guarantee)

    stage.turn(consumer)  # type: ignore[arg-type]
    index.links = noted  # type: ignore[method-assign,assignment]
    for _ in range(30):
        stage.turn(consumer)  # type: ignore[arg-type]
    assert [since is None for since in asked] == [n % 10 == 0 for n in range(30)]
    assert len(kept(LEDGER, asked[-1], STRONG)) == 2


@pytest.mark.parametrize("step", range(1, 6))
def test_an_index_put_back_to_just_before_a_late_link_is_filled_again(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """R4: the stage sleeps between rows and link, and the index comes back as it was before these rows.

    Break: look at the first step only in `_check_steps` (n = 2 and more).
    """
    monkeypatch.setattr(stream.index, "LATE_LINK_S", 0.0)
    records, index = ledger(20), Watched()
    left = [step]
    kept = {}

    def keep(rows: Sequence[Row]) -> int:
        kept.update({name: deepcopy(vars(index)[name]) for name in ("_tenants", "_rows", "_links", "_inserted")})
        return Watched.insert(index, rows)

    def put_back(_link: Link) -> None:
        left[0] -= 1
        if left[0] == 0:
            vars(index).update(kept)

    index.insert = keep  # type: ignore[method-assign]
    index.before_link = put_back
    stage, consumer = stage_over(index, records)
    run(stage, consumer, index, records)
    assert_whole(index, records)


def test_another_ledgers_index_is_refused() -> None:
    """A re-created ledger topic stops the stage and says so. Break: ignore `other_ledgers`."""
    records, index = ledger(3), Watched()
    index.append_links([Link("ledger-0", 0, 1, 0, 5, 1 << 40)])
    stage, consumer = stage_over(index, records)
    with pytest.raises(LedgerGap, match="created anew"):
        stage.turn(consumer)  # type: ignore[arg-type]


def test_an_index_ahead_of_its_ledger_is_refused() -> None:
    """A truncated ledger is never guessed over. Break: drop `check_progress`."""
    records, index = ledger(3), Watched()
    index.append_links([Link(LEDGER, 0, 1, 0, 500, 1 << 40)])
    stage, consumer = stage_over(index, records)
    with pytest.raises(LedgerGap, match="up to offset 500"):
        stage.turn(consumer)  # type: ignore[arg-type]
