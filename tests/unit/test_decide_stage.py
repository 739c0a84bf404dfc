"""DECIDE's loop over an index in memory: what it asks of the index around a commit, and what the answer does."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from schemas.events import Vector
from stream.commit import Committer
from stream.config import Settings
from stream.decide import DecideStage
from stream.errors import BrokerUnavailable, IndexUnavailable
from stream.health import Health
from stream.incoming import Intake
from stream.indexview import IndexView
from stream.kafka import Record
from stream.lookup import Lookup
from stream.metrics import Metrics
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Found, Hit, Link
from stream.ownership import Ownership
from tests.support.made import MODEL_ID, fingerprint, random_vector, rule_of
from tests.unit.test_commit import Broker as Producer

T0 = 1 << 40
METADATA = object()
LEDGER = "ledger-1"


def link(start: int, end: int) -> Link:
    return Link(LEDGER, 0, 1, start, end, T0 + end)


class Group:
    """Stands for the group consumer: two fingerprints that come again until the batch is committed."""

    topic_id = "uploads-1"
    asked_for_metadata = False

    def __init__(self, did: list[str]) -> None:
        self.did = did
        self.position = 0
        values = [fingerprint(n, random_vector(n)).model_dump_json().encode() for n in range(2)]
        self.records = [Record("fingerprints", 0, n, 0, [], value) for n, value in enumerate(values)]

    def group_metadata(self) -> object:
        self.asked_for_metadata = True
        return METADATA

    def poll(self, *_: object) -> list[Record]:
        found, self.position = self.records[self.position :], len(self.records)
        return found

    def lag(self, _partition: int, committed: int) -> int:
        return len(self.records) - committed

    def committed(self, _partition: int) -> int:
        return 0

    def start_offset(self, *_: object) -> int:
        return 0

    def seek(self, _partition: int, offset: int) -> None:
        self.did.append(f"seek {offset}")
        self.position = offset

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.did.append(f"pay {dict(offsets)}")

    revived = 0

    def nothing(self, *_: object) -> None: ...

    pause = resume = ask_ends = close = nothing


class Ledger:
    """Stands for `LogReader`: nine offsets without an entry."""

    starts = 0

    def ends(self, _partition: int) -> tuple[int, int]:
        return 0, 9

    def start(self, _partition: int, _offset: int) -> None:
        self.starts += 1

    def read(self, _records_max: int, _wait_s: float) -> tuple[list[Record], int | None]:
        return [], 9

    def close(self) -> None: ...


class Asked(MemoryIndex):
    """Notes what is asked of it; `then` is called after a search."""

    def __init__(self, did: list[str]) -> None:
        super().__init__()
        self.did = did
        self.then: Callable[[], object] = lambda: None
        self.away = False

    def prepare(self) -> None:
        if self.away:
            raise IndexUnavailable("away")

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        self.did.append("search")
        found = super().search(tenant, vectors, guarantee)
        self.then()
        return found

    def look_up(self, *asked: Any) -> tuple[dict[str, Found], set[Link]]:
        if self.away:
            raise IndexUnavailable("away")
        self.did.append("look up")
        return super().look_up(*asked)

    def links(self, *asked: Any, **named: Any) -> list[Link]:
        self.did.append("links")
        return super().links(*asked, **named)


class Producers(Producer):
    """Stands for producers. The broker may be `away` from the first flush on."""

    away = False

    def flush(self) -> None:
        super().flush()
        if self.away:
            raise BrokerUnavailable("away")

    def abort(self) -> None:
        super().abort()
        if self.away:
            raise BrokerUnavailable("away")


class Bench:
    """A stage that owns one partition, open, over an index that holds the ledger up to 9."""

    def __init__(self, *, broker_away: bool = False, **settings: Any) -> None:
        self.did: list[str] = []
        self.group = Group(self.did)
        group: Any = self.group
        self.index = Asked(self.did)
        self.index.append_links([link(0, 9)])
        self.producers: list[weakref.ref[Producers]] = []
        self.metrics = Metrics(CollectorRegistry())
        own = Settings(decide={"progress_interval_s": 1e6}, index={"retry_wait_max_s": 1e-6}, **settings)
        view = IndexView(self.index, LEDGER, 1, 0.0)
        ledger: Any = Ledger()
        self.ownership = Ownership(own.decide, view, ledger, rule_of)
        self.ownership.use(group)
        self.lookup = Lookup(self.index, ledger, self.ownership.judge_of, 1.0)
        intake = Intake(Group.topic_id, 1, MODEL_ID, None)

        def make_committer() -> Committer:
            producer = Producers(9)
            producer.did, producer.away = self.did, broker_away
            self.producers.append(weakref.ref(producer))
            return Committer(own.topics, own.delivery, cast("Any", producer), group)

        self.stage = DecideStage(
            own, group, make_committer, view, self.lookup, self.ownership, intake, self.metrics, Health(60)
        )
        self.ownership.assigned([0])
        self.group.records, kept = [], self.group.records
        self.stage.turn()
        self.group.records = kept

    def turn(self) -> list[str]:
        """One turn; what was done in it."""
        self.did.clear()
        self.stage.turn()
        return list(self.did)

    def turn_until(self, what: str) -> list[str]:
        """Turns until this was done: a failure is followed by a wait."""
        for _ in range(500):
            if what in (did := self.turn()):
                return did
            time.sleep(0.01)
        pytest.fail(f"no {what}")


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_nothing_is_judged_of_what_an_index_said_that_fell_back(delivery: str) -> None:
    """R4: a batch that relied on rows that are gone is not published, and is judged again.

    Breaks: look up before the searches; let `pins_hold` be true always.
    """
    bench = Bench(delivery=delivery)
    bench.index.then = lambda: bench.index.delete_links([link(0, 9)])
    did = bench.turn()
    assert did == ["search", "look up", "links", "seek 0"]
    bench.index.then = lambda: None
    bench.index.append_links([link(0, 9)])
    did = bench.turn_until("search")
    published = ["begin", "flush", "offsets of uploads-1", "commit"] if delivery == "exactly_once" else ["flush"] * 2
    assert did[did.index("search") :] == ["search", "look up", *published]
    assert [owned.committed for owned in bench.ownership.all] == [2]
    (producer,) = (made() for made in bench.producers)
    assert producer is not None
    # It fences a transaction; nothing else needs it.
    assert producer.metadata is (METADATA if delivery == "exactly_once" else None)
    assert bench.group.asked_for_metadata is (delivery == "exactly_once")


def test_a_pin_that_is_not_found_is_looked_for_in_the_whole_chain() -> None:
    """An answer may be stale, or INDEX has deleted a needless link. Break: throw the batch away at once."""
    bench = Bench()
    bench.index.look_up = lambda *asked: (Asked.look_up(bench.index, *asked)[0], set())  # type: ignore[method-assign]
    did = bench.turn()
    assert did[:3] == ["search", "look up", "links"]
    assert did[-1] == "commit"


def test_no_transaction_is_begun_while_the_index_is_away() -> None:
    """It would be over before it could be aborted. The batch is read again. Break: `begin` before the look-up."""
    bench = Bench()
    bench.index.then = lambda: setattr(bench.index, "away", True)
    assert bench.turn() == ["search", "seek 0"]
    assert bench.metrics.registry.get_sample_value("dejaview_index_errors_total", {"stage": "decide"}) == 1
    bench.index.then, bench.index.away = lambda: None, False
    assert "commit" in bench.turn_until("search")
    assert [owned.committed for owned in bench.ownership.all] == [2]
    assert len(bench.producers) == 1


def test_a_producer_that_cannot_abort_is_freed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """One that lives on fences its successor when the broker is back.

    Break: keep the abort's error with the flush's in `_exactly_once`, which makes a cycle.
    """
    caplog.set_level("CRITICAL", "dejaview.decide")  # what is captured is kept, with the error and its frames
    bench = Bench(broker_away=True)
    gc.collect()
    gc.disable()
    try:
        assert bench.turn_until("search")[-1] == "abort"
        assert bench.stage._committer is None
        assert [producer() for producer in bench.producers] == [None]
    finally:
        gc.enable()


def test_offsets_are_paid_while_the_index_is_away() -> None:
    """They were judged while it was there, and it may be away for long. Break: `pay` behind `prepare`."""
    bench = Bench(delivery="at_least_once")
    assert "flush" in bench.turn()
    bench.stage._index_was_away = True
    bench.index.away = True
    assert "pay {0: 2}" in bench.turn()
