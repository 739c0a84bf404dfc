"""What a member reads of the partitions it owns, and from where. Each begins paused, with no place."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream.kafka.client import translated
from stream.kafka.records import Record
from stream.kafka.silence import Silence

log = logging.getLogger("dejaview.kafka")

ASK_TIMEOUT_S = 1.0


class Reading:
    """Places, ends and pauses of owned partitions. One thread uses it."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._silence = Silence()
        self._ends: dict[int, int] = {}
        # Where each is read on: its last seek, or after the last record that was handed out.
        self._places: dict[int, int] = {}
        # Those that their owner has sought: before, neither records nor errors of a partition mean anything.
        self._sought: set[int] = set()
        # Partitions that stood still and were taken anew.
        self.revived = 0

    def begin(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        """Newly assigned: paused at 0 until the owner seeks, since where to begin takes requests that have no place in
        a callback. A fetch may still slip out before the pause and find offset 0 deleted.
        """
        self._take(consumer, [TopicPartition(self._topic, p, 0) for p in partitions])

    def leave(self, partitions: Iterable[int]) -> None:
        """Another member's now."""
        for partition in partitions:
            self._sought.discard(partition)
            self._ends.pop(partition, None)
            self._places.pop(partition, None)
            self._silence.leave([partition])

    def is_sought(self, partition: int) -> bool:
        return partition in self._sought

    def end(self, partition: int) -> int:
        """The end that was reached since the last seek, past transaction markers and aborted records; 0 before."""
        return self._ends.get(partition, 0)

    def reached_end(self, partition: int, offset: int) -> None:
        self._ends[partition] = offset
        self._silence.heard(partition)

    def handed_out(self, records: Iterable[Record]) -> None:
        for record in records:
            self._places[record.partition] = record.offset + 1
            self._silence.heard(record.partition)

    def nothing_came(self) -> None:
        """The local queue is empty."""
        self._silence.emptied()

    def seek(self, consumer: Consumer, partition: int, offset: int) -> None:
        """See `GroupConsumer.seek`."""
        place = TopicPartition(self._topic, partition, offset)
        known = partition in self._sought
        # Whatever fails here, the next try takes the long way.
        self._sought.discard(partition)
        # An end that was reached before says nothing of what is read again from here.
        self._ends.pop(partition, None)
        with translated(f"seeking {self._topic} [{partition}] to {offset}"):
            if known:
                consumer.seek(place)
            else:
                self._take_again(consumer, place)
        self._sought.add(partition)
        self._places[partition] = offset
        self._silence.heard(partition)

    def pause(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        places = [TopicPartition(self._topic, p) for p in partitions]
        self._silence.leave(p.partition for p in places)
        consumer.pause(places)

    def resume(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        places = [TopicPartition(self._topic, p) for p in partitions]
        consumer.resume(places)
        self._silence.watch(p.partition for p in places if p.partition in self._sought)

    def revive(self, consumer: Consumer) -> None:
        """Take a partition anew that stands still: nothing comes, and its log goes on behind where it is read.

        librdkafka drops an operation that a later one has overtaken, without an error: a resume can be lost while a
        rebalance begins. A partition that stands still in a worker that is ready is the worst way to fail.
        """
        partition = self._silence.due()
        if partition is None:
            return
        place = self._places[partition]
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=ASK_TIMEOUT_S)
            behind = end > max(place, self.end(partition))
            fetched = {p: self._fetched(consumer, p) for p in self._places} if behind else {}
            if not self._silence.stalled(partition, behind=behind, fetched=fetched, places=self._places):
                return
            log.error(
                "%s [%d] brought no record for %.0f s, although its log goes on from %d to %d; it is taken anew",
                self._topic, partition, self._silence.silent_s(partition), place, end,
            )  # fmt: skip
            self._take_again(consumer, TopicPartition(self._topic, partition, place))
            consumer.resume([TopicPartition(self._topic, partition)])
        except KafkaException as exception:
            # Whatever uses the broker says that it is away; looked at again later.
            log.debug("looking at %s [%d]: %s", self._topic, partition, exception.args[0])
            return
        self.revived += 1
        self._silence.heard(partition)

    def _fetched(self, consumer: Consumer, partition: int) -> int:
        """The end as of the partition's last fetch; no request."""
        _, high = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return int(high)

    def _take_again(self, consumer: Consumer, place: TopicPartition) -> None:
        """Give a partition back and take it at the right place, paused.

        Where a fetch has found a new partition's first place deleted, librdkafka refuses to seek.
        """
        consumer.incremental_unassign([place])
        self._take(consumer, [place])

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
