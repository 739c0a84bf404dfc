"""Send a library, hold back while too much of it is not judged, and wait for the last verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ops.backfill.answers import Answers
from ops.backfill.sources import Item
from ops.cli.errors import CommandError
from stream.config import Settings
from stream.kafka import Admin, Follower, LogProducer, Outgoing
from stream.service import Service, Stage

READ_RECORDS = 1_000
WAIT_S = 0.1
# Flushed at least this often: what waits in memory is not judged.
FLUSHED_RECORDS = 100
FLUSHED_BYTES = 16_000_000
KEPT_FOR_EVER = {"retention.ms": "-1"}


class Channel(Protocol):
    """The topics as a backfill sees them."""

    def send(self, records: list[Outgoing]) -> None:
        """Produce, and wait until the broker has them."""

    def waiting_from_start(self) -> int:
        """Uploads that were ever sent to `topics.backfill`."""

    def read(self) -> None:
        """Take answers in; waits a moment for them.

        Raises:
            Whatever ended the stage that encodes.
        """


@dataclass(frozen=True, slots=True)
class Progressed:
    """Uploads sent by this run, left out because they have a verdict, and waiting for their answer."""

    sent: int
    left_out: int
    waiting: int


def backfill(
    items: Iterable[Item],
    answers: Answers,
    channel: Channel,
    rate: float | None,
    ahead: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Progressed]:
    """Send what has no verdict yet, in order; ends when everything has its answer.

    What an earlier run sent is waited for first: only then is it known what has a verdict.

    Args:
        rate: uploads a second at most.
        ahead: uploads without an answer at most; a live upload of the same tenant waits behind these.
    """
    total = channel.waiting_from_start()
    sent = left_out = 0
    batch: list[Outgoing] = []
    batch_bytes = 0
    while answers.answered < total:
        channel.read()
        yield Progressed(0, 0, total - answers.answered)
    started = clock()
    for item in items:
        if answers.knows(item.tenant, item.upload_id):
            left_out += 1
            continue
        if rate is not None:
            sleep(max(0.0, started + sent / rate - clock()))
        batch.append(item.record)
        batch_bytes += len(item.record.value)
        sent += 1
        slow = rate is not None and len(batch) >= rate * WAIT_S
        full = len(batch) >= min(FLUSHED_RECORDS, ahead) or batch_bytes >= FLUSHED_BYTES
        if not (slow or full):
            continue
        channel.send(batch)
        batch, batch_bytes = [], 0
        channel.read()
        yield Progressed(sent, left_out, total + sent - answers.answered)
        while total + sent - answers.answered >= ahead:
            channel.read()
            yield Progressed(sent, left_out, total + sent - answers.answered)
    channel.send(batch)
    while answers.answered < total + sent:
        channel.read()
        yield Progressed(sent, left_out, total + sent - answers.answered)
    yield Progressed(sent, left_out, 0)


def create_topics(settings: Settings) -> None:
    """Make the two topics of a backfill, where they are not there yet.

    Raises:
        BrokerUnavailable, NotPermitted.
    """
    topics, admin = settings.topics, Admin(settings)
    config = {**KEPT_FOR_EVER, "max.message.bytes": str(topics.message_bytes_max)}
    for name, own in ((topics.backfill, config), (topics.backfilled, KEPT_FOR_EVER)):
        if name not in admin.existing([name]):
            admin.create(name, topics.partitions, topics.replication_factor, own)
    admin.partition_counts([topics.backfill, topics.backfilled])


def encoding(settings: Settings, folders: Iterable[Path] = ()) -> Settings:
    """The settings of the ENCODE that reads the library: the deployment's, with its topic, in a group of its own."""
    roots = [*settings.intake.file_roots, *folders]
    return settings.model_copy(
        update={
            "topics": settings.topics.model_copy(update={"uploads": settings.topics.backfill}),
            "kafka": settings.kafka.model_copy(update={"group_prefix": f"{settings.kafka.group_prefix}-backfill"}),
            "intake": settings.intake.model_copy(update={"file_roots": roots}),
            "health": settings.health.model_copy(update={"port": 0}),
            "first_start": "earliest",
        }
    )


class Live:
    """A `Channel` on Kafka, with an ENCODE of its own. The deployment's DECIDE and INDEX judge and index."""

    def __init__(self, settings: Settings, folders: Iterable[Path] = ()) -> None:
        """Check topics, settings and the model.

        Raises:
            SettingError, TopicMissing, NotPermitted, BrokerUnavailable: with what to do.
        """
        topics = settings.topics
        self._topic = topics.backfill
        self._admin = Admin(settings)
        found = self._admin.topics([topics.backfill])[topics.backfill]
        self._partitions = found.partitions
        self.answers = Answers(found.topic_id)
        self._service = Service(encoding(settings, folders), [Stage.ENCODE])
        self._follower = Follower(
            settings, self._admin.partition_counts([topics.backfilled]), from_start=True
        )  # fmt: skip
        self._producer = LogProducer(settings)

    def start(self) -> None:
        self._service.start()

    def send(self, records: list[Outgoing]) -> None:
        self._producer.produce(records)
        self._producer.flush()

    def waiting_from_start(self) -> int:
        return sum(high for _, high in self._admin.ends(self._topic, range(self._partitions)).values())

    def read(self) -> None:
        if self._service.stop.is_set():
            raise self._service.failure or CommandError("the encoding stage was stopped")
        self.answers.take(self._follower.read(READ_RECORDS, WAIT_S))

    def close(self) -> None:
        self._service.close()
        self._follower.close()


def judges(settings: Settings, admin: Admin) -> int:
    """Members of the deployment's group of DECIDE: without one nothing is judged."""
    topic = settings.topics.fingerprints
    partitions = range(admin.partition_counts([topic])[topic])
    return admin.group(f"{settings.kafka.group_prefix}-decide", topic, partitions).members
