"""ENCODE's end: what is decoded is published and committed; a broker that is away is not waited for too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Event, Thread
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from schemas.events import SourcePosition
from stream.config import Settings
from stream.encode import EncodeStage
from stream.errors import BrokerUnavailable
from stream.health import Health
from stream.kafka import Outgoing, Record
from stream.metrics import Metrics
from stream.prepare import Prepared, Preparer
from stream.stop import Stop

DRAIN_S = 2.0
WAITS = b"waits"


class Group:
    """Stands for the group consumer: one partition with three events that cannot be read, which fail at once."""

    def __init__(self) -> None:
        self.stage: EncodeStage | None = None
        self.records = [Record("uploads", 0, n, 0, [], b"?") for n in range(3)]
        self.seen = Event()
        self.committed: list[Mapping[int, int]] = []
        self.commits: Callable[[], object] = lambda: None
        self.polls_s: list[float] = []
        self.pauses_s: list[float] = []

    def poll(self, *_: object) -> list[Record]:
        assert self.stage is not None
        self.polls_s.append(time.monotonic())
        if not self.seen.is_set():
            self.stage.assigned([0, 1])
            self.stage._open(cast("Any", self))
            self.seen.set()
            return self.records
        time.sleep(0.005)
        return []

    def start_offset(self, *_: object) -> int:
        return 0

    def commit(self, offsets: Mapping[int, int]) -> None:
        if offsets:
            self.commits()
            self.committed.append(dict(offsets))

    def close(self) -> None:
        assert self.stage is not None
        self.stage.revoked([0, 1])

    def lag(self, *_: object) -> int:
        return 0

    revived = 0

    def pause(self, _: object) -> None:
        self.pauses_s.append(time.monotonic())

    def nothing(self, *_: object) -> None: ...

    seek = resume = nothing


class Waiting(Preparer):
    """An upload that says so waits for its store without end."""

    def submit(self, record: Record) -> Prepared:
        if record.value == WAITS:
            return Prepared(record, SourcePosition(topic_id="uploads-1", partition=1, offset=0), b"")
        return super().submit(record)


class Producer:
    """Stands for the producer: a broker that is `away` acknowledges nothing, one that is `lost` never will."""

    def __init__(self) -> None:
        self.away = False
        self.lost = False
        self.purged = False
        self.sent: list[Outgoing] = []

    def produce(self, records: Iterable[Outgoing]) -> None:
        self.sent += records

    def purge(self) -> None:
        self.purged = True

    def flush(self, give_up: Callable[[], bool]) -> None:
        begun = time.monotonic()
        if self.lost:
            raise BrokerUnavailable("not acknowledged")
        while self.away:
            if give_up() or time.monotonic() > begun + 5 * DRAIN_S:
                raise BrokerUnavailable("not acknowledged")
            time.sleep(0.01)


class Bench:
    """A stage over a group and a producer in memory."""

    def __init__(self, **encode: float) -> None:
        # When the broker is back, in seconds after the word to stop.
        self.back_after_s: float | None = None
        # A batch each: the first is waited for when it is told to stop, the others are the drain's.
        settings = Settings(drain_s=DRAIN_S, encode={"batch_items_max": 1, **encode})
        self.group, self.producer = Group(), Producer()
        self.made = 0
        self.stops_after_s = 0.1
        self.stop = Stop()
        self.stopped_s = 0.0
        preparer = Waiting(settings.intake, "uploads-1", None)
        unused = cast("Any", None)
        self.stage = EncodeStage(
            settings,
            self.make_producer,
            preparer,
            unused,
            unused,
            4,
            Metrics(CollectorRegistry()),
            Health(60.0),
        )
        self.group.stage = self.stage

    def make_producer(self) -> Any:
        self.made += 1
        if self.made > 1:
            self.producer = Producer()
        return self.producer

    def run(self) -> float:
        """Run it, told to stop a moment after it has something in hand; how long its end took, in seconds."""

        def stop() -> None:
            assert self.group.seen.wait(10)
            time.sleep(self.stops_after_s)
            self.stopped_s = time.monotonic()
            self.stop.set()
            if self.back_after_s is not None:
                time.sleep(self.back_after_s)
                self.producer.away = False

        Thread(target=stop).start()
        self.stage.run(cast("Any", self.group), self.stop)
        return time.monotonic() - self.stopped_s


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_is_in_hand_is_published_and_committed(bench: Bench) -> None:
    """Break: return from `run` without `_drain`."""
    bench.producer.away = True
    bench.back_after_s = 0.1
    bench.run()
    assert len(bench.producer.sent) == 3
    assert bench.group.committed[-1] == {0: 3}


def test_an_upload_that_waits_does_not_keep_others_from_being_committed(bench: Bench) -> None:
    """Its store may be away for longer than there is time. Break: commit at the drain's end alone."""
    bench.group.records.append(Record("uploads", 1, 0, 0, [], WAITS))
    bench.producer.away = True
    bench.back_after_s = 0.1
    assert bench.run() >= DRAIN_S / 2
    assert bench.group.committed[-1] == {0: 3}


def test_a_broker_that_is_away_is_left_after_half_of_the_drain_time(bench: Bench) -> None:
    """The next owner does it again: nothing is committed. Break: `_out_of_time` that says no."""
    bench.producer.away = True
    assert DRAIN_S / 2 <= bench.run() < DRAIN_S
    assert bench.group.committed == []


def test_one_commit_is_waited_for_not_two(bench: Bench) -> None:
    """A commit that a coordinator holds back waits for as long as the session: closing does not begin another.

    Break: `_commit` that does not ask for the time.
    """

    begun_s: list[float] = []

    def held_back() -> None:
        begun_s.append(time.monotonic())
        time.sleep(DRAIN_S * 0.6)
        raise BrokerUnavailable("waiting for the coordinator")

    bench.group.commits = held_back
    bench.run()
    assert sum(begun > bench.stopped_s for begun in begun_s) <= 1
    assert bench.group.committed == []


def test_a_producer_that_delivers_nothing_twice_is_replaced(bench: Bench) -> None:
    """It may have lost all brokers (librdkafka's issue 5301). Break: replace only one that is broken, or keep what the
    old one holds, which keeps its threads.
    """
    first = bench.producer
    first.lost = True
    bench.stops_after_s = 1.0
    bench.run()
    assert bench.made == 2
    assert first.purged
    assert len(bench.producer.sent) == 3
    assert bench.group.committed[-1] == {0: 3}


@pytest.mark.parametrize("company", [False, True])
def test_nobody_waits_for_company_that_is_not_on_its_way(company: bool) -> None:
    """While another upload is in work, decoded ones wait for it, as long as `batch_wait_s` says.

    Breaks, each tried: take only what is due; take whatever there is.
    """
    bench = Bench(batch_items_max=9, batch_wait_s=1.5)
    if company:
        bench.group.records.append(Record("uploads", 1, 0, 0, [], WAITS))
    published_s: list[float] = []
    produce = bench.producer.produce

    def produced(records: Iterable[Outgoing]) -> None:
        published_s.append(time.monotonic())
        produce(records)

    bench.producer.produce = produced  # type: ignore[method-assign]
    bench.stops_after_s = 3.0 if company else 1.0
    bench.run()
    assert len(bench.producer.sent) == 3
    waited_s = published_s[0] - bench.group.polls_s[0]
    assert 1.4 <= waited_s <= 2.5 if company else waited_s <= 1.0


def test_a_broker_that_is_away_is_no_reason_to_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is decoded, and nothing can be given out. Break: wait for nothing while `_backoff` does."""
    bench = Bench()
    monkeypatch.setattr(bench.group, "poll", partial(no_wait, bench.group, bench.group.poll))
    bench.stage._backoff.failed()
    bench.stage._backoff._until_s += 1.0
    bench.stops_after_s = 0.9
    bench.run()
    assert len(bench.group.polls_s) < 0.9 / 0.005 + 20


def no_wait(group: Group, poll: Callable[..., list[Record]], *_: object) -> list[Record]:
    """A poll that does not wait, of what is in flight."""
    if not group.seen.is_set():
        return poll()
    group.polls_s.append(time.monotonic())
    return []


def test_it_pauses_only_when_it_was_full_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause costs what was fetched: a full stage takes nothing for a moment. Then it pauses, and polls, or its group
    would think it dead. Break: pause at once; `return` from `_take_in` whenever nothing fits.
    """
    monkeypatch.setattr("stream.encode.FULL_S", 0.3)
    bench = Bench(in_flight_items_max=3)
    bench.stops_after_s = 2.0
    # Nothing is published, so nothing goes.
    monkeypatch.setattr(bench.producer, "flush", failing)
    monkeypatch.setattr("stream.encode.UNREACHED_MAX", 99)
    bench.run()
    first, *later = bench.group.polls_s
    # A little less than the .3 s, which began before the first poll.
    assert 0.25 <= bench.group.pauses_s[0] - first < 1.5
    assert later[0] - first >= 0.25
    assert len(later) > 3


def failing(*_: object, **__: object) -> None:
    raise BrokerUnavailable("not acknowledged")
