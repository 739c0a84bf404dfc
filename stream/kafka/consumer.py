"""A member of a consumer group, with cooperative rebalancing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream.config import Settings
from stream.errors import BrokerUnavailable, OffsetLost, StageStopped
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.lost import is_lost
from stream.kafka.reading import ASK_TIMEOUT_S, Reading
from stream.kafka.records import Record, committable, record_of

log = logging.getLogger("dejaview.kafka")

# What a consumer buffers at most, and what one answer to a fetch may bring on top of that.
QUEUED_BYTES_MAX = 64 * 1024 * 1024
FETCH_BYTES_MAX = 50 * 1024 * 1024
# A member without partitions is no rarity: there may be more members than partitions.
IDLE_S = 60.0


class Assignment(Protocol):
    """What a stage does when partitions come and go. Called from `GroupConsumer.poll` and `close` only."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """They start paused, with no position: `seek` and `resume` each when it can be worked on."""

    def revoked(self, partitions: Sequence[int]) -> None:
        """Still owned during the call: the last chance to commit."""

    def lost(self, partitions: Sequence[int]) -> None:
        """Owned by another already: nothing may be committed."""


class GroupConsumer:
    """A member of a consumer group on one topic. One thread uses it.

    Offsets are committed with the topic's id beside them: an offset of a topic that was deleted may lie inside the one
    that was created in its place, and going on there would skip what comes before it.
    """

    def __init__(
        self, settings: Settings, group: str, topic: str, assignment: Assignment, topic_id: str | None = None
    ) -> None:
        self._topic = topic
        self._group = f"{settings.kafka.group_prefix}-{group}"
        self.topic_id = topic_id
        self._assignment = assignment
        self._timeout_s = settings.kafka.request_timeout_s
        self._asked_ends: dict[int, int] = {}
        # Owned partitions, each with the number of its assignment.
        self._owned: dict[int, int] = {}
        self._assignments = 0
        self._reading = Reading(topic)
        own = {
            "group.id": self._group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(settings.kafka.session_timeout_s * 1000),
            "receive.message.max.bytes": settings.topics.message_bytes_max + 100_000_000,
            "fetch.message.max.bytes": 4_000_000,
            "fetch.max.bytes": FETCH_BYTES_MAX,
            "queued.max.messages.kbytes": QUEUED_BYTES_MAX // 1024,
            "fetch.queue.backoff.ms": 20,
            "fetch.wait.max.ms": 100,
        }
        self._configuration = configuration(settings, settings.kafka.consumer_options, own)
        self._look_at_s = time.monotonic() + IDLE_S
        self._consumer = self._member()

    def _member(self) -> Consumer:
        with option_errors():
            consumer = Consumer(self._configuration)
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        return consumer

    def poll(self, records_max: int, first_wait_s: float, fill_wait_s: float) -> list[Record]:
        """Up to `records_max` records: waits for a first one, then a moment for more. Runs the assignment's calls.

        Raises:
            StageStopped: something that no retry mends. Errors that mend themselves are logged.
        """
        first = self._consumer.consume(1, first_wait_s)
        owned = dict(self._owned)
        rest = self._consumer.consume(records_max - 1, fill_wait_s) if first and records_max > 1 else []
        # The second call may have given up, or got back, the partition of the first one's record.
        kept = [m for m in first if self._owned.get(m.partition() or 0) == owned.get(m.partition() or 0)] + rest
        records = [record_of(message) for message in kept if self._is_record(message)]
        self._reading.polled(records, nothing_came=not first)
        self._reading.revive(self._consumer)
        self._rejoin()
        return records

    def _rejoin(self) -> None:
        """Without partitions for long: is this client still one of the cluster's?"""
        now = time.monotonic()
        if self._owned:
            self._look_at_s = now + IDLE_S
        if now < self._look_at_s:
            return
        self._look_at_s = now + IDLE_S
        if is_lost(self._consumer, self._configuration, self._topic):
            log.error("the client of %s has lost all brokers, and others reach them: a new one joins", self._group)
            lost, self._consumer = self._consumer, self._member()
            # It has nothing to leave, and may wait for a broker to say so.
            threading.Thread(target=lost.close, name="lost-consumer", daemon=True).start()

    @property
    def revived(self) -> int:
        """Partitions that librdkafka had stopped reading and that were taken anew."""
        return self._reading.revived

    def group_metadata(self) -> Any:
        """This member and generation; captured when a batch is formed, it fences the batch."""
        return self._consumer.consumer_group_metadata()

    def committed(self, partition: int) -> int | None:
        """The group's stable committed offset: waits for another member's open transaction.

        Raises:
            BrokerUnavailable: not known in time; ask again.
            OffsetLost: it was committed to another topic of this name.
        """
        with translated(f"reading the committed offset of {self._topic} [{partition}]"):
            (found,) = self._consumer.committed([TopicPartition(self._topic, partition)], timeout=self._timeout_s)
        if found.error is not None:
            raise translate(found.error, f"reading the committed offset of {self._topic} [{partition}]")
        if found.offset < 0:
            return None
        if found.metadata and self.topic_id and found.metadata != self.topic_id:
            raise OffsetLost(
                f"the committed offset {found.offset} of {self._topic} [{partition}] is one of topic id "
                f"{found.metadata}, the topic's is {self.topic_id}: it was deleted and created anew. Set the group's "
                "offsets (kafka-consumer-groups --reset-offsets --to-earliest) to say where to go on."
            )
        return int(found.offset)

    def start_offset(self, partition: int, first_start: str) -> int:
        """Where to begin: the committed offset, or the first start's policy, committed at once.

        `latest` leaves out what the topic holds when the group is new. A partition that is added later is read from
        its beginning.

        Raises:
            BrokerUnavailable: not known yet; ask again.
        """
        committed = self.committed(partition)
        if committed is None and first_start == "latest":
            self._begin_at_the_ends(partition)
            committed = self.committed(partition)
        if committed is not None:
            return committed
        low, _ = self.watermarks(partition)
        self.commit({partition: low})
        return low

    def _begin_at_the_ends(self, partition: int) -> None:
        """The owner of partition 0 begins for all: once one has an offset, a partition without is one that was added.

        By one member, in one commit: several would move each other's offsets on.
        """
        with translated(f"reading the committed offsets of {self._topic}"):
            partitions = list(self._consumer.list_topics(timeout=self._timeout_s).topics[self._topic].partitions)
            asked = [TopicPartition(self._topic, p) for p in partitions]
            places = self._consumer.committed(asked, timeout=self._timeout_s)
        known = {place.partition for place in places if place.offset >= 0}
        if partition == 0 and not known:
            self.commit({p: self.watermarks(p)[1] for p in partitions})
        elif partition != 0 and 0 not in known:
            raise BrokerUnavailable(f"{self._group} is new: the owner of {self._topic} [0] begins for all partitions")

    def end(self, partition: int) -> int:
        """The end that was reached since the last seek, past transaction markers and aborted records; 0 before."""
        return self._reading.end(partition)

    def watermarks(self, partition: int) -> tuple[int, int]:
        with translated(f"reading the offsets of {self._topic} [{partition}]"):
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=self._timeout_s
            )
        return low, high

    def lag(self, partition: int, position: int) -> int:
        """Records between a position and the last known end (no request); markers at the end do not count."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return max(0, max(high, self._asked_ends.get(partition, 0)) - max(position, self.end(partition)))

    def ask_ends(self, partitions: Iterable[int]) -> None:
        """For `lag` of paused partitions: nothing is fetched there, so no answer tells how their end moves."""
        for partition in partitions:
            with suppress(KafkaException):
                _, self._asked_ends[partition] = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, partition), timeout=ASK_TIMEOUT_S
                )

    def seek(self, partition: int, offset: int) -> None:
        """Go on from this offset; a newly assigned partition stays paused.

        Raises:
            BrokerUnavailable: it did not work; try again.
        """
        self._reading.seek(self._consumer, partition, offset)

    def pause(self, partitions: Iterable[int]) -> None:
        self._reading.pause(self._consumer, partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self._reading.resume(self._consumer, partitions)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets outside of a transaction.

        Raises:
            BatchAborted: not this member's partitions any more.
            BrokerUnavailable: not known whether it happened.
        """
        if not offsets:
            return
        positions = committable(self._topic, offsets, self.topic_id)
        with translated(f"committing offsets of {self._topic}"):
            committed = self._consumer.commit(offsets=positions, asynchronous=False)
        for position in committed or []:
            if position.error is not None:
                raise translate(position.error, f"committing offsets of {self._topic}")

    def close(self) -> None:
        """Leave the group; `revoked` is called for what is owned."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        error, partition = message.error(), message.partition() or 0
        if partition in self._owned and not self._reading.counts(self._consumer, partition):
            return False
        if error is None:
            return partition in self._owned
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._reading.reached_end(partition, message.offset() or 0)
            return False
        mapped = translate(error, f"consuming {self._topic} as {self._group}")
        if isinstance(mapped, StageStopped):
            raise mapped
        log.warning("%s", mapped)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [p.partition for p in partitions]
        self._reading.begin(consumer, numbers)
        self._assignments += 1
        self._owned.update(dict.fromkeys(numbers, self._assignments))
        self._assignment.assigned(numbers)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Not what one that was replaced has to say when it is closed.
        if consumer is self._consumer:
            self._assignment.revoked(self._disowned(partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._assignment.lost(self._disowned(partitions))

    def _disowned(self, partitions: list[TopicPartition]) -> list[int]:
        numbers = [p.partition for p in partitions]
        self._reading.leave(numbers)
        for number in numbers:
            self._owned.pop(number, None)
            self._asked_ends.pop(number, None)
        return numbers
