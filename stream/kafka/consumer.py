"""A member of a consumer group, with cooperative rebalancing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream.config import Settings
from stream.errors import BrokerUnavailable, OffsetLost, StageStopped
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.records import Record, committable, record_of

log = logging.getLogger("dejaview.kafka")

_ASK_TIMEOUT_S = 1.0
# What a consumer buffers at most, and what one answer to a fetch may bring on top of that.
QUEUED_BYTES_MAX = 64 * 1024 * 1024
FETCH_BYTES_MAX = 50 * 1024 * 1024


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
        self._ends: dict[int, int] = {}
        self._asked_ends: dict[int, int] = {}
        # Owned partitions, each with the number of its assignment.
        self._owned: dict[int, int] = {}
        self._assignments = 0
        # Those that their owner has sought: before, neither records nor errors of a partition mean anything.
        self._sought: set[int] = set()
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
        with option_errors():
            self._consumer = Consumer(configuration(settings, settings.kafka.consumer_options, own))
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

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
        return [record_of(message) for message in kept if self._is_record(message)]

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
        return self._ends.get(partition, 0)

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
                    TopicPartition(self._topic, partition), timeout=_ASK_TIMEOUT_S
                )

    def seek(self, partition: int, offset: int) -> None:
        """Go on from this offset; a newly assigned partition stays paused.

        Raises:
            BrokerUnavailable: it did not work; try again.
        """
        place = TopicPartition(self._topic, partition, offset)
        known = partition in self._sought
        # Whatever fails here, the next try takes the long way.
        self._sought.discard(partition)
        # An end that was reached before says nothing of what is read again from here.
        self._ends.pop(partition, None)
        with translated(f"seeking {self._topic} [{partition}] to {offset}"):
            if known:
                self._consumer.seek(place)
            else:
                self._assign_again(place)
        self._sought.add(partition)

    def _assign_again(self, place: TopicPartition) -> None:
        """Give a partition back and take it at the right place.

        Where a fetch has found a new partition's first place deleted, librdkafka refuses to seek.
        """
        self._consumer.incremental_unassign([place])
        self._take(self._consumer, [place])

    @staticmethod
    def _take(consumer: Consumer, places: list[TopicPartition]) -> None:
        """Take partitions at these places, paused.

        librdkafka's main thread begins to fetch after `incremental_assign` has returned (a partition given back just
        before must stop first). A pause that overtakes this makes it outdated (librdkafka numbers both), and the
        partition is never read: no error, no log. What the main thread answers here comes after what it has begun.
        """
        consumer.incremental_assign(places)
        consumer.assignment()
        consumer.pause(places)

    def pause(self, partitions: Iterable[int]) -> None:
        self._consumer.pause([TopicPartition(self._topic, p) for p in partitions])

    def resume(self, partitions: Iterable[int]) -> None:
        self._consumer.resume([TopicPartition(self._topic, p) for p in partitions])

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
        error = message.error()
        if message.partition() in self._owned and message.partition() not in self._sought:
            return False
        if error is None:
            return message.partition() in self._owned
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._ends[message.partition() or 0] = message.offset() or 0
            return False
        mapped = translate(error, f"consuming {self._topic} as {self._group}")
        if isinstance(mapped, StageStopped):
            raise mapped
        log.warning("%s", mapped)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Where to begin takes requests that have no place in a callback: paused at 0 until the owner seeks. A fetch
        # may still slip out before the pause and find offset 0 deleted, see `_sought`.
        self._take(consumer, [TopicPartition(p.topic, p.partition, 0) for p in partitions])
        self._assignments += 1
        self._owned.update({p.partition: self._assignments for p in partitions})
        self._assignment.assigned([p.partition for p in partitions])

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignment.revoked(self._disowned(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignment.lost(self._disowned(partitions))

    def _disowned(self, partitions: list[TopicPartition]) -> list[int]:
        numbers = [p.partition for p in partitions]
        for number in numbers:
            self._owned.pop(number, None)
            self._sought.discard(number)
            self._ends.pop(number, None)
            self._asked_ends.pop(number, None)
        return numbers
