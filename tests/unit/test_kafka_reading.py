"""What librdkafka is told of owned partitions, and in which order; what a partition's messages mean."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from stream.errors import BrokerUnavailable
from stream.kafka import silence
from stream.kafka.reading import Reading
from stream.kafka.records import Record

Told = tuple[str, tuple[tuple[int, int], ...]]


class Client:
    """Stands for confluent_kafka's Consumer: keeps what it is told, fails where it is told to."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.held: dict[int, int] = {}
        self.fails: set[str] = set()
        self.end = 0

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._tell("assign", places)
        self.held.update({p.partition: p.offset for p in places})

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self._tell("unassign", places)
        for place in places:
            del self.held[place.partition]

    def assignment(self) -> list[TopicPartition]:
        self._tell("assignment", [])
        return [TopicPartition("t", partition, offset) for partition, offset in self.held.items()]

    def pause(self, places: list[TopicPartition]) -> None:
        self._tell("pause", places)

    def resume(self, places: list[TopicPartition]) -> None:
        self._tell("resume", places)

    def seek(self, place: TopicPartition) -> None:
        self._tell("seek", [place])

    def get_watermark_offsets(self, _place: TopicPartition, **options: Any) -> tuple[int, int]:
        if not options.get("cached"):
            self._tell("ends", [])
            return 0, self.end
        return 0, -1001

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> None:
        """librdkafka takes the time to wait for the request's own: with none it drops the connection."""
        assert timeout > 0
        self._tell("wake", places)

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def _tell(self, name: str, places: list[TopicPartition]) -> None:
        if name in self.fails:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        self.told.append((name, tuple((p.partition, p.offset) for p in places)))


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def reading(client: Any, monkeypatch: pytest.MonkeyPatch) -> Reading:
    """Partitions 0 and 1, sought at 10 and read; a standstill shows at once."""
    for name in ("SILENT_S", "CONFIRMED_S", "LOOK_EVERY_S", "FAILED_WAIT_S"):
        monkeypatch.setattr(silence, name, 0.0)
    made = Reading("t")
    made.begin(client, [0, 1])
    for partition in (0, 1):
        made.seek(client, partition, 10)
        made.resume(client, [partition])
    client.told.clear()
    return made


def test_a_fetch_is_begun_before_it_is_paused(client: Any) -> None:
    """Break: `overtake-the-fetch`."""
    made = Reading("t")
    made.begin(client, [3])
    assert client.told == [("assign", ((3, 0),)), ("assignment", ()), ("pause", ((3, 0),))]
    client.told.clear()
    made.seek(client, 3, 7)
    assert client.names() == ["assignment", "unassign", "assign", "assignment", "pause"]
    assert client.held == {3: 7}


def test_a_consumer_that_is_being_closed_answers_no_more(client: Any) -> None:
    client.fails = {"assignment"}
    Reading("t").begin(client, [3])
    assert client.names() == ["assign", "pause"]


def test_nothing_of_a_partition_counts_before_it_is_sought(client: Any) -> None:
    made = Reading("t")
    made.begin(client, [3])
    assert not made.counts(client, 3)
    made.seek(client, 3, 7)
    assert not made.counts(client, 3)
    made.resume(client, [3])
    assert made.counts(client, 3)
    made.leave([3])
    assert not made.counts(client, 3)


def test_a_seek_that_fails_takes_the_long_way_next_and_reads_on(client: Any, reading: Reading) -> None:
    client.fails = {"seek"}
    with pytest.raises(BrokerUnavailable):
        reading.seek(client, 0, 5)
    assert not reading.counts(client, 0)
    reading.seek(client, 0, 5)
    assert client.names()[-2:] == ["pause", "resume"]
    assert reading.counts(client, 0)


def test_what_comes_of_a_paused_partition_is_read_again_when_it_is_wanted(client: Any, reading: Reading) -> None:
    """Break: continue at librdkafka's place, behind what was left out."""
    reading.polled([Record("t", 0, 10, 0, [], b"")], nothing_came=False)
    reading.pause(client, [0])
    client.told.clear()
    assert not reading.counts(client, 0)
    assert not reading.counts(client, 0)
    assert client.names() == ["pause"]
    reading.resume(client, [0])
    assert client.held[0] == 11
    assert reading.counts(client, 0)


def test_a_resume_wakes_a_reader_that_reads_nothing_else(client: Any, reading: Reading) -> None:
    """Beside others it would wait behind their fetch. Break: wake at every resume, or at none; let a failure out."""
    reading.pause(client, [0])
    reading.resume(client, [0])
    assert client.names() == ["pause", "resume"]
    reading.pause(client, [0, 1])
    client.told.clear()
    reading.resume(client, [0])
    reading.resume(client, [1])
    assert client.told == [("resume", ((0, -1001),)), ("wake", ((0, OFFSET_END),)), ("resume", ((1, -1001),))]
    client.fails = {"wake"}
    reading.pause(client, [0, 1])
    reading.resume(client, [0, 1])
    assert reading.counts(client, 0)


def test_a_partition_that_stands_still_is_taken_anew_at_its_place(client: Any, reading: Reading) -> None:
    """Break: `trust-the-client`."""
    client.end = 11
    reading.leave([1])
    for _ in range(3):
        reading.polled([], nothing_came=True)
        reading.revive(client)
    assert reading.revived == 1
    assert client.held[0] == 10
    assert client.names()[-2:] == ["pause", "resume"]


def test_a_partition_at_its_end_is_left_alone(client: Any, reading: Reading) -> None:
    client.end = 15
    reading.reached_end(0, 15)
    reading.reached_end(1, 15)
    for _ in range(10):
        reading.polled([], nothing_came=True)
        reading.revive(client)
    assert reading.revived == 0


def test_a_look_that_fails_raises_nothing(client: Any, reading: Reading) -> None:
    client.fails = {"ends"}
    reading.polled([], nothing_came=True)
    reading.revive(client)
    assert reading.revived == 0


def test_a_second_half_that_fails_is_made_up_for(client: Any, reading: Reading) -> None:
    """Given back and not taken: it is not there to give back the next time."""
    client.end = 11
    reading.leave([1])
    client.fails = {"assign"}
    for _ in range(4):
        reading.polled([], nothing_came=True)
        reading.revive(client)
    assert 0 not in client.held
    assert reading.revived == 0
    client.fails = set()
    reading.polled([], nothing_came=True)
    reading.revive(client)
    assert client.held[0] == 10
    assert reading.revived == 1
