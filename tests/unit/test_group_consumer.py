"""Owned partitions are read from where their owner says, whatever became of the log's beginning."""

from __future__ import annotations

import time

import pytest

from stream.config import Settings
from stream.kafka import EmbeddedBroker, GroupConsumer, LogProducer, LogReader, Outgoing, lost
from tests.support.owner import Owner

TOPIC = "dejaview.fingerprints"
PARTITIONS = range(4)


def turned(consumer: GroupConsumer, until_s: float, got: dict[int, list[int]]) -> None:
    """Poll for a while; collects offsets by partition."""
    while time.monotonic() < until_s:
        for record in consumer.poll(10, 0.05, 0.0):
            got.setdefault(record.partition, []).append(record.offset)


@pytest.mark.parametrize("idle_s", [0.0, 1.0])
def test_a_partition_whose_beginning_was_deleted_is_opened(idle_s: float) -> None:
    """Retention at the log's start is no lost offset: nothing is judged by it before the owner has sought.

    The broker inside keeps 5 MB a partition, so that offset 0 is gone. Break: drop `is_sought` from `_is_record`, or
    use `seek` for a new partition.
    """
    broker = EmbeddedBroker()
    settings = Settings(kafka={"bootstrap_servers": broker.bootstrap_servers})
    producer = LogProducer(settings)
    for _ in range(8):
        producer.produce(Outgoing(TOPIC, b"x" * 900_000, partition=p) for p in PARTITIONS)
        producer.flush()
    reader = LogReader(settings, TOPIC)
    ends = {p: reader.ends(p) for p in PARTITIONS}
    reader.close()
    assert all(low > 0 for low, _ in ends.values())
    owner = Owner()
    consumer = GroupConsumer(settings, "test", TOPIC, owner)
    got: dict[int, list[int]] = {}
    deadline = time.monotonic() + 20
    while not owner.owned and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.05, got)
    turned(consumer, time.monotonic() + idle_s, got)
    assert got == {}
    for partition in owner.owned:
        consumer.seek(partition, ends[partition][0])
        consumer.resume([partition])
    expected = {p: list(range(*ends[p])) for p in PARTITIONS}
    while got != expected and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.1, got)
    assert got == expected
    consumer.close()


def test_an_end_that_was_reached_is_forgotten_by_a_seek() -> None:
    """R4: INDEX links past what lies before the end, where that is markers only; after a seek back (an index that was
    emptied) it is not. With the old end INDEX vouched for rows that were not there.

    Break: keep `_ends` in `Reading.seek`.
    """
    broker = EmbeddedBroker()
    settings = Settings(kafka={"bootstrap_servers": broker.bootstrap_servers})
    producer = LogProducer(settings)
    producer.produce(Outgoing(TOPIC, b"x", partition=p) for p in PARTITIONS for _ in range(5))
    producer.flush()
    owner = Owner()
    consumer = GroupConsumer(settings, "test", TOPIC, owner)
    got: dict[int, list[int]] = {}
    deadline = time.monotonic() + 20
    while not owner.owned and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.05, got)
    for partition in owner.owned:
        consumer.seek(partition, 0)
        consumer.resume([partition])
    while any(consumer.end(p) != 5 for p in PARTITIONS) and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.1, got)
    assert [consumer.end(p) for p in PARTITIONS] == [5] * 4
    consumer.pause([0])
    consumer.seek(0, 0)
    assert [consumer.end(p) for p in PARTITIONS] == [0, 5, 5, 5]
    consumer.close()


def test_a_member_whose_client_lost_all_brokers_joins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: such a client finds none any more (librdkafka's issue 5301); here it left the group and reaches nobody.

    Break, tried: never `_rejoin`.
    """
    monkeypatch.setattr("stream.kafka.consumer.IDLE_S", 0.2)
    broker = EmbeddedBroker()
    settings = Settings(kafka={"bootstrap_servers": broker.bootstrap_servers})
    producer = LogProducer(settings)
    producer.produce(Outgoing(TOPIC, b"x", partition=p) for p in PARTITIONS)
    producer.flush()
    owner = Owner()
    consumer = GroupConsumer(settings, "test", TOPIC, owner)
    deadline = time.monotonic() + 30
    while not owner.owned and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.05, {})
    assert owner.owned
    client = consumer._consumer
    reaches = lost._reaches
    monkeypatch.setattr(lost, "_reaches", lambda asked, topic: asked is not client and reaches(asked, topic))
    client.unsubscribe()
    while (consumer._consumer is client or not owner.owned) and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.05, {})
    assert consumer._consumer is not client
    assert owner.owned
    got: dict[int, list[int]] = {}
    for partition in owner.owned:
        consumer.seek(partition, 0)
        consumer.resume([partition])
    while len(got) < len(PARTITIONS) and time.monotonic() < deadline:
        turned(consumer, time.monotonic() + 0.1, got)
    assert got == {p: [0] for p in PARTITIONS}
    consumer.close()


def test_a_member_without_partitions_keeps_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more members than partitions, or the broker is away for all. Break: join anew without asking."""
    monkeypatch.setattr("stream.kafka.consumer.IDLE_S", 0.0)
    monkeypatch.setattr(lost, "REACH_S", 1.0)
    broker = EmbeddedBroker()
    for address in (broker.bootstrap_servers, "127.0.0.1:1"):
        settings = Settings(kafka={"bootstrap_servers": address})
        member = GroupConsumer(settings, "test", TOPIC, Owner())
        client = member._consumer
        member._rejoin()
        assert member._consumer is client
        member.close()
