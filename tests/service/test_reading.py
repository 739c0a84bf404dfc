"""A partition that is owned and not paused is read, whatever librdkafka loses of what it was told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from confluent_kafka import TopicPartition

from ops.local.kafka import KafkaServer
from stream.config import Settings
from stream.kafka import Admin, GroupConsumer, LogProducer, Outgoing, silence
from tests.support.deployment import until
from tests.support.owner import Owner

PARTITIONS = 24
TAKEN = 6_000


@dataclass
class Member:
    """A member that owns all partitions of a topic of its own."""

    settings: Settings
    topic: str
    consumer: GroupConsumer

    def send(self, partitions: Sequence[int]) -> None:
        producer = LogProducer(self.settings)
        producer.produce([Outgoing(self.topic, b"-", partition=partition) for partition in partitions])
        producer.flush()

    def read(self, seconds: float) -> set[int]:
        """Partitions that brought a record."""
        deadline, brought = time.monotonic() + seconds, set[int]()
        while time.monotonic() < deadline:
            brought |= {record.partition for record in self.consumer.poll(256, 0.1, 0.0)}
        return brought


def member(kafka: KafkaServer, **options: str) -> Member:
    name = f"reading-{uuid.uuid4().hex[:8]}"
    values = {"bootstrap_servers": kafka.bootstrap, "group_prefix": name, "consumer_options": options}
    settings = Settings.model_validate({"kafka": values})
    Admin(settings).create(name, PARTITIONS, 1, {})
    owner = Owner()
    consumer = GroupConsumer(settings, "reading", name, owner)

    def all_owned() -> bool:
        consumer.poll(1, 0.1, 0.0)
        return len(owner.owned) == PARTITIONS

    until(all_owned, 30)
    return Member(settings, name, consumer)


@pytest.fixture
def opened(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    """All partitions are read, and a standstill is noticed within seconds."""
    monkeypatch.setattr(silence, "SILENT_S", 2.0)
    monkeypatch.setattr(silence, "CONFIRMED_S", 1.5)
    monkeypatch.setattr(silence, "LOOK_EVERY_S", 0.02)
    made = member(kafka)
    for partition in range(PARTITIONS):
        made.consumer.seek(partition, 0)
        made.consumer.resume([partition])
    yield made
    made.consumer.close()


def test_a_partition_taken_anew_is_read(kafka: KafkaServer, capfd: pytest.CaptureFixture[str]) -> None:
    """librdkafka begins to fetch in a thread of its own and drops what a later operation has overtaken, silently. Its
    debug log, which tells, also widens the gap: without waiting for that thread one in a thousand is lost.

    Break: `overtake-the-fetch`.
    """
    made = member(kafka, debug="topic")
    for number in range(TAKEN):
        partition = number % PARTITIONS
        made.consumer._reading.leave([partition])
        made.consumer.seek(partition, 0)
        made.consumer.resume([partition])
    made.send(range(PARTITIONS))
    assert made.read(5) == set(range(PARTITIONS))
    assert made.consumer.revived == 0
    made.consumer.close()
    told = capfd.readouterr().err
    assert told.count("received op FETCH_START") >= TAKEN
    assert "outdated op FETCH_START" not in told


def test_a_resume_wakes_the_reader(opened: Member) -> None:
    """With all partitions paused librdkafka's thread sleeps for up to a second: half of it on average.

    Break: leave out `_wake`.
    """
    partitions = range(PARTITIONS)
    waited_s = []
    for attempt in range(9):
        opened.send(partitions)
        assert opened.read(0.3)
        opened.consumer.pause(partitions)
        opened.read(1.1 + 0.11 * attempt)
        opened.send(partitions)
        begun = time.monotonic()
        opened.consumer.resume(partitions)
        while not opened.consumer.poll(1, 0.01, 0.0):
            """It is on its way."""
        waited_s.append(time.monotonic() - begun)
        opened.read(0.3)
    assert sorted(waited_s)[len(waited_s) // 2] < 0.2, waited_s


def test_a_resume_that_was_lost_is_noticed(opened: Member, caplog: pytest.LogCaptureFixture) -> None:
    """Paused behind the reader's back, as after a resume that a rebalance has overtaken: read on from its place.

    Break: `trust-the-client`.
    """
    opened.send(range(PARTITIONS))
    assert opened.read(3) == set(range(PARTITIONS))
    opened.consumer._consumer.pause([TopicPartition(opened.topic, 7)])
    opened.send([7, 8])
    brought: list[int] = []

    def something_came() -> bool:
        brought.extend(opened.read(0.2))
        return bool(brought)

    until(something_came, 20)
    assert brought == [8]
    opened.send([7])
    found: list[int] = []

    def came() -> bool:
        found.extend(record.offset for record in opened.consumer.poll(256, 0.1, 0.0) if record.partition == 7)
        return len(found) == 2

    until(came, 20)
    assert found == [1, 2]
    assert opened.consumer.revived == 1
    assert "[7] brought no record" in caplog.text


def test_quiet_and_paused_partitions_are_left_alone(opened: Member) -> None:
    opened.send(range(PARTITIONS))
    opened.consumer.pause([3])
    opened.send([3])
    assert opened.read(12) >= set(range(PARTITIONS)) - {3}
    assert opened.consumer.revived == 0


def test_a_pause_that_was_lost_hands_nothing_out(opened: Member) -> None:
    """Read on behind the owner's back, as after a pause that a rebalance has overtaken: what comes is left out, and
    read again when the owner wants it.

    Break: drop `_paused` from `Reading.counts`.
    """
    opened.send(range(PARTITIONS))
    assert opened.read(3) == set(range(PARTITIONS))
    opened.consumer.pause([7])
    opened.consumer._consumer.resume([TopicPartition(opened.topic, 7)])
    opened.send([7])
    assert opened.read(2) == set()
    opened.send([7])
    assert opened.read(1) == set()
    opened.consumer.resume([7])
    found: list[int] = []

    def came() -> bool:
        found.extend(record.offset for record in opened.consumer.poll(256, 0.1, 0.0) if record.partition == 7)
        return len(found) == 2

    until(came, 20)
    assert found == [1, 2]
