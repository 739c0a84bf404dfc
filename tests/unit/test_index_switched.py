"""A rebuilt index is switched to between two batches: no link without its rows, no pin of the other collection."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

import stream.index
from schemas.events import LedgerEntry
from stream.config import Settings
from stream.errors import IndexUnavailable
from stream.health import Health
from stream.index import IndexStage
from stream.indexview import IndexMoved, IndexView, Pin
from stream.kafka import Record
from stream.metrics import Metrics
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import STRONG, Link
from stream.progress import chain_end
from tests.support.switched import Switched
from tests.unit.test_index_stage import LEDGER, Ends, ScriptedConsumer, ledger

T0 = 1 << 40


def link(end: int, timestamp: int) -> Link:
    return Link(LEDGER, 0, 1, 0, end, timestamp)


def switched(old_end: int, new_end: int) -> Switched:
    """Two collections; the rows of the new one were written later."""
    index = Switched({"old": MemoryIndex(), "new": MemoryIndex()}, "old")
    index.collections["old"].append_links([link(old_end, T0)])
    index.collections["new"].append_links([link(new_end, T0 + 500)])
    return index


@pytest.mark.parametrize("new_end", [5, 10, 15])
def test_no_pin_outlives_a_switch(new_end: int) -> None:
    """R3, R4: the old collection's timestamp guarantees nothing of the new one, even where that one is further.

    Breaks, each tried: `follow` prepares without `IndexMoved`; the shared read of all links is kept.
    """
    index = switched(10, new_end)
    view = IndexView(index, LEDGER, 1, 0.0, clock=lambda: 7.0)
    view.open(0)
    view.follow()
    assert view.pin(0) == Pin(10, T0, link(10, T0))
    index.live = "new"
    with pytest.raises(IndexMoved) as moved:
        view.follow()
    assert moved.value.partitions == [0]
    assert "new" in str(moved.value)
    view.close(0)
    view.open(0)
    assert view.pin(0) == Pin(new_end, T0 + 500, link(new_end, T0 + 500))
    view.follow()


def test_an_index_that_comes_back_as_another_collection_is_a_switch() -> None:
    """R4: what DECIDE does after the index was away may find another collection. Break: call the index's `prepare`."""
    index = switched(10, 10)
    view = IndexView(index, LEDGER, 1, 0.0)
    view.open(0)
    view.prepare()
    index.live = "new"
    with pytest.raises(IndexMoved):
        view.prepare()


@pytest.mark.parametrize("built_to", [0, 9, 20])
def test_index_leaves_no_link_without_its_rows(built_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is switched to a copy that is behind, further, or empty, between rows and link of any step of INDEX: in
    the end the copy's chain is at the ledger's end and every row of it is there.

    Break, tried: go to the current collection between rows and link (what an alias as address would do).
    """
    monkeypatch.setattr(stream.index, "FOLLOW_S", 0.0)
    records = ledger(20)
    wanted = {LedgerEntry.model_validate_json(r.value or b"").representative.row_id for r in records}  # type: ignore[union-attr]
    for step in range(1, 6):
        index = Switched({"old": MemoryIndex(), "new": MemoryIndex()}, "new")
        if built_to:
            turn_until_end(index, records[:built_to], 100)
        index.live = "old"
        index.prepare()
        stage, consumer = stage_over(index, records)
        inserts = itertools.count(1)
        index.after_insert = lambda index=index, inserts=inserts, step=step: (  # type: ignore[misc]
            setattr(index, "live", "new") if next(inserts) >= step else None
        )
        for _ in range(200):
            stage.turn(consumer)  # type: ignore[arg-type]
        assert index.collection == "new"
        copy = index.collections["new"]
        progress = chain_end(copy.links(LEDGER, {0: 0}, STRONG))
        assert progress is not None
        assert progress.offset == records[-1].offset + 1
        assert set(copy.get(list(wanted), STRONG)) == wanted
        assert copy.count_rows() == len(wanted)


def test_index_that_does_not_say_where_it_is_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written meanwhile. Break: `_follow` outside the loop's try."""
    monkeypatch.setattr(stream.index, "FOLLOW_S", 0.0)
    records, index = ledger(8), Switched({"old": MemoryIndex()}, "old")
    stage, consumer = stage_over(index, records)

    def away() -> str:
        raise IndexUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(index, "current", away)
        for _ in range(20):
            stage.turn(consumer)  # type: ignore[arg-type]
    assert index.count_rows() == 0
    # Until the back-off is over.
    for _ in range(5_000):
        if index.count_rows() == len(records):
            return
        stage.turn(consumer)  # type: ignore[arg-type]
    pytest.fail("INDEX does not go on")


def turn_until_end(index: Switched, records: Sequence[Record], turns: int) -> None:
    stage, consumer = stage_over(index, records)
    for _ in range(turns):
        stage.turn(consumer)  # type: ignore[arg-type]


def stage_over(index: Switched, records: Sequence[Record]) -> tuple[IndexStage, ScriptedConsumer]:
    settings = Settings(index={"retry_wait_max_s": 1e-6}, ledger_index={"check_interval_s": 0.001})
    stage = IndexStage(settings, index, Ends(records), LEDGER, 1, Metrics(CollectorRegistry()), Health(60))  # type: ignore[arg-type]
    stage.assigned([0])
    return stage, ScriptedConsumer(records)
