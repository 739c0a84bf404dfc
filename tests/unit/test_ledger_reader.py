"""Reading the ledger for repeats: the right entries, in few goes, and never another partition's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer

from schemas.events import LedgerEntry
from stream.config import Settings
from stream.errors import BrokerUnavailable
from stream.judge import Judge, Knowledge
from stream.kafka import EmbeddedBroker, LogProducer, LogReader, Outgoing, lost
from stream.ledger import Restore, read_entries
from stream.memory import Memory
from stream.window import Window
from tests.support.made import fingerprint, random_vector, rule_of, work

TOPIC = "dejaview.ledger"


@pytest.fixture(scope="module")
def settings() -> Settings:
    broker = EmbeddedBroker()
    made = Settings(kafka={"bootstrap_servers": broker.bootstrap_servers})
    producer = LogProducer(made)
    for partition, count in ((0, 400), (1, 30)):
        judge = Judge(Window(10_000), Memory(10_000), rule_of)
        works = [work(fingerprint(n, random_vector(n), upload_id=f"p{partition}-{n}")) for n in range(count)]
        entries = [o.entry for o in judge.judge(works, Knowledge()) if isinstance(o.entry, LedgerEntry)]
        producer.produce(Outgoing(TOPIC, e.model_dump_json().encode(), partition=partition) for e in entries)
    producer.flush()
    object.__setattr__(made, "_broker", broker)
    return made


def ids(entries: dict[int, LedgerEntry]) -> dict[int, str | None]:
    return {offset: entry.verdict.upload_id if entry.verdict else None for offset, entry in entries.items()}


def test_scattered_entries_are_read(settings: Settings) -> None:
    """R2: a sender's repeat gets its own entry. Break: return the first record of each read."""
    reader = LogReader(settings, TOPIC)
    found = read_entries(reader, 0, [399, 5, 6, 250, 0], 20)
    assert ids(found) == {n: f"p0-{n}" for n in (0, 5, 6, 250, 399)}
    assert ids(read_entries(reader, 1, [29], 20)) == {29: "p1-29"}
    with pytest.raises(BrokerUnavailable):
        read_entries(reader, 1, [30], 0.3)
    reader.close()


def test_a_restore_takes_nothing_of_another_partition(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2, R3: the reader was used for partition 1 in the middle: its end is not the end of partition 0.

    Break: start the reader only once in `Restore.step`.
    """
    monkeypatch.setattr("stream.ledger.READ_RECORDS", 20)
    reader = LogReader(settings, TOPIC)
    memory = Memory(1_000)
    restore = Restore(reader, 0, 0, 400, 400, Window(1_000), memory)
    for _ in range(200):
        if len(memory) or restore.step(0.1):
            break
    assert 0 < len(memory) < 400
    reader.start(1, 0)
    reader.read(10, 1.0)
    for _ in range(200):
        if restore.step(0.1):
            break
    assert len(memory) == 400
    # The same partition once more, as after a commit without an answer.
    again = Memory(1_000)
    restore = Restore(reader, 0, 0, 400, 400, Window(1_000), again)
    for _ in range(200):
        if restore.step(0.1):
            break
    assert len(again) == 400
    reader.close()


def test_a_reader_that_lost_all_brokers_gets_new_clients(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: a restore would wait for ever; it begins again (librdkafka's issue 5301, here played).

    Break: do not count the new start; never ask.
    """
    monkeypatch.setattr("stream.kafka.reader.SILENT_S", 0.2)
    reader = LogReader(settings, TOPIC)
    memory = Memory(1_000)
    restore = Restore(reader, 0, 0, 400, 400, Window(1_000), memory)
    client, reaches = reader._consumer, lost._reaches
    monkeypatch.setattr(lost, "_reaches", lambda asked, topic: asked is not client and reaches(asked, topic))
    monkeypatch.setattr(reader, "start", _before(reader.start, reader, client))
    for _ in range(200):
        if restore.step(0.1):
            break
    assert reader._consumer is not client
    assert len(memory) == 400
    # One whose client reaches the broker keeps it, whatever comes.
    kept = reader._consumer
    reader.start(1, 30)
    for _ in range(5):
        reader.read(10, 0.1)
    assert reader._consumer is kept
    reader.close()


def _before(start: Callable[[int, int], None], reader: LogReader, lost_client: object) -> Callable[[int, int], None]:
    """A lost client that is told to read reads nothing."""

    def begin(partition: int, offset: int) -> None:
        start(partition, offset)
        if reader._consumer is lost_client:
            reader._consumer.unassign()

    return begin


def test_reads_that_are_given_up_count_together(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins anew, and may be shorter than it takes until somebody asks. Break: begin to count in `start`."""
    monkeypatch.setattr("stream.kafka.reader.SILENT_S", 0.5)
    asked: list[str] = []
    monkeypatch.setattr("stream.kafka.reader.is_lost", lambda *_: asked.append("asked"))
    reader = LogReader(settings, TOPIC)
    monkeypatch.setattr(reader, "_consumer", Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "nobody"}))
    for _ in range(4):
        with pytest.raises(BrokerUnavailable):
            read_entries(reader, 0, [5], 0.25)
    assert asked
    reader.close()


def test_a_client_that_cannot_tell_ends_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a partition asks for the ledger's ends. Break: never ask in `ends`."""
    short = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"request_timeout_s": 0.3})})
    reader = LogReader(short, TOPIC)
    assert reader.ends(1) == (0, 30)
    client = reader._watcher
    nobody = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "nobody", "log_level": 2})
    reader._watcher = nobody
    monkeypatch.setattr(lost, "REACH_S", 1.0)
    monkeypatch.setattr("stream.kafka.reader.SILENT_S", 0.0)
    with pytest.raises(BrokerUnavailable):
        reader.ends(1)
    assert reader._watcher is not nobody
    assert reader.ends(1) == (0, 30)
    client.close()
    reader.close()
