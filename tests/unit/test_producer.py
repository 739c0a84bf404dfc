"""A batch's delivery reports are its own: an aborted batch never fails the next one."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, ProducerBroken
from stream.kafka import LogProducer, Outgoing

Report = Callable[[KafkaError | None, Any], None]
# For calls that run into their limits.
SHORT: Any = {"request_timeout_s": 0.4, "transaction_timeout_s": 0.4}


class Delivered:
    """The message of a delivery report."""

    def offset(self) -> int:
        return 7

    def partition(self) -> int:
        return 0


class FakeProducer:
    """librdkafka's order of things: what an abort purges is reported when the application serves its queue."""

    def __init__(self, _configuration: dict[str, Any]) -> None:
        self.waiting: list[Report] = []
        self.due: list[tuple[Report, KafkaError | None]] = []
        self.away = False

    def init_transactions(self, _timeout_s: float) -> None:
        """Nothing to settle."""

    def begin_transaction(self) -> None:
        """Always possible."""

    def produce(self, _topic: str, *, on_delivery: Report, **_named: Any) -> None:
        self.waiting.append(on_delivery)

    def flush(self, timeout_s: float) -> int:
        if self.away:
            time.sleep(timeout_s)
        else:
            self.due += [(report, None) for report in self.waiting]
            self.waiting = []
        served, self.due = self.due, []
        for report, error in served:
            report(error, Delivered())
        return len(self.waiting)

    def abort_transaction(self, _timeout_s: float) -> None:
        self.due += [(report, KafkaError(KafkaError._PURGE_QUEUE)) for report in self.waiting]
        self.waiting = []


def test_what_an_abort_purged_does_not_fail_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was not delivered is aborted; the next one goes through at once.

    Break: `abort` without serving the reports: the next flush raises "Purged in queue".
    """
    monkeypatch.setattr("stream.kafka.producer.Producer", FakeProducer)
    producer = LogProducer(Settings(kafka=SHORT), "transactional")
    fake: Any = producer._producer
    fake.away = True
    producer.begin()
    producer.produce([Outgoing("verdicts", b"1")])
    with pytest.raises(BrokerUnavailable, match="not acknowledged"):
        producer.flush()
    producer.abort()
    fake.away = False
    record = Outgoing("verdicts", b"2")
    producer.begin()
    producer.produce([record])
    producer.flush()
    assert record.offset == 7


def test_a_producer_that_was_purged_ends() -> None:
    """A replaced one with its threads would stay for ever: what it holds, holds it. Break: a `purge` that does not."""
    producer = LogProducer(Settings(kafka={**SHORT, "bootstrap_servers": "127.0.0.1:1"}))
    ended = weakref.ref(producer)
    producer.produce([Outgoing("fingerprints", b"1")])
    with pytest.raises(BrokerUnavailable):
        producer.flush()
    producer.purge()
    del producer
    gc.collect()
    assert ended() is None


def test_a_flush_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is told to stop does not wait for a broker that is away. Break: never ask."""
    monkeypatch.setattr("stream.kafka.producer.Producer", FakeProducer)
    monkeypatch.setattr("stream.kafka.producer._ASKED_EVERY_S", 0.01)
    producer = LogProducer(Settings())
    fake: Any = producer._producer
    fake.away = True
    producer.produce([Outgoing("fingerprints", b"1")])
    asked: list[None] = []

    def stopped() -> bool:
        asked.append(None)
        return len(asked) == 3

    with pytest.raises(BrokerUnavailable, match="1 records were not acknowledged"):
        producer.flush(give_up=stopped)
    assert len(asked) == 3
    fake.away = False
    producer.flush(give_up=stopped)
    assert len(asked) == 3


def test_a_fatal_error_in_the_middle_of_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fenced while delivery reports are served: Python wraps librdkafka's error, and the stage must see its kind.

    Break: translate `KafkaException` alone; the worker ends with a traceback.
    """

    class Fenced(FakeProducer):
        def flush(self, _timeout_s: float) -> int:
            fenced = KafkaError(KafkaError._FENCED, "fenced", True)
            raise SystemError("returned a result with an exception set") from KafkaException(fenced)

    monkeypatch.setattr("stream.kafka.producer.Producer", Fenced)
    producer = LogProducer(Settings(), "transactional")
    producer.begin()
    with pytest.raises(BatchAborted, match="fenced"):
        producer.flush()


def test_another_system_error_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of Kafka's is a bug. Break: translate every SystemError."""

    class Odd(FakeProducer):
        def flush(self, _timeout_s: float) -> int:
            raise SystemError("odd")

    monkeypatch.setattr("stream.kafka.producer.Producer", Odd)
    with pytest.raises(SystemError, match="odd"):
        LogProducer(Settings(), "transactional").flush()


def test_a_producer_that_could_not_start_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lives on fences its successor when the broker is back. Break: keep the error in `within`'s frame."""
    made: list[weakref.ref[FakeProducer]] = []

    class NoBroker(FakeProducer):
        def __init__(self, configuration: dict[str, Any]) -> None:
            super().__init__(configuration)
            made.append(weakref.ref(self))

        def init_transactions(self, _timeout_s: float) -> None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr("stream.kafka.producer.Producer", NoBroker)
    gc.disable()
    try:
        with pytest.raises(BrokerUnavailable):
            LogProducer(Settings(), "some id")
        (producer,) = made
        assert producer() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("fenced", [True, False])
def test_a_call_that_does_not_come_back_is_left_behind(monkeypatch: pytest.MonkeyPatch, *, fenced: bool) -> None:
    """librdkafka overruns its limits when the broker was away: the stage goes on with a new producer, within bounds.
    The old one is freed when its call is over, and commits nothing any more.

    Breaks: make `guarded` call in the loop's own thread; keep the late error's tracebacks; never set `_left_behind`.
    """
    back = Event()
    committed: list[None] = []

    class Stuck(FakeProducer):
        def send_offsets_to_transaction(self, *_: Any) -> None:
            back.wait(60)
            if fenced:
                raise KafkaException(KafkaError(KafkaError._FENCED))

        def commit_transaction(self, _timeout_s: float) -> None:
            committed.append(None)

    def end(producer: LogProducer) -> None:
        producer.send_offsets("fingerprints", {0: 1}, None, None)
        producer.commit()

    monkeypatch.setattr("stream.kafka.producer.Producer", Stuck)
    monkeypatch.setattr("stream.kafka.producer._GRACE_S", 0.1)
    settings = Settings(kafka={"transaction_timeout_s": 0.2})
    producer = LogProducer(settings, "some id")
    producer.begin()
    try:
        with pytest.raises(ProducerBroken, match=r"did not come back in 0\.3 s"):
            producer.guarded(partial(end, producer))
        old = weakref.ref(producer._producer)
        del producer
        gc.collect()
        gc.disable()
        back.set()
        (left,) = [thread for thread in threading.enumerate() if thread.name == "kafka-transaction"]
        left.join(10)
        del left
        assert old() is None
        assert not committed
    finally:
        gc.enable()
        back.set()
