"""What a member reads of the partitions it owns, and from where. Each begins paused, with no place.

librdkafka numbers what it is told of a partition and drops, without an error, what a later operation has overtaken.
Its own thread tells itself things, too: to begin a fetch, to pause while a rebalance begins. So any pause or resume may
be lost, rarely, and nothing here relies on one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from stream.kafka.client import translated
from stream.kafka.records import Record
from stream.kafka.silence import Look, Silence

log = logging.getLogger("dejaview.kafka")

ASK_TIMEOUT_S = 1.0
WAKE_TIMEOUT_S = 0.5


class Reading:
    """Places, ends and pauses of owned partitions. One thread uses it."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._silence = Silence()
        self._nothing_came = False
        self._ends: dict[int, int] = {}
        # Where each is read on: its last seek, or after the last record that was handed out.
        self._places: dict[int, int] = {}
        # Those that their owner has sought: before, neither records nor errors of a partition mean anything.
        self._sought: set[int] = set()
        # Those that their owner does not want to be read, and of these the ones that were read all the same.
        self._paused: set[int] = set()
        self._strayed: set[int] = set()
        # Partitions that stood still and were taken anew.
        self.revived = 0

    def begin(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        """Newly assigned: paused at 0 until the owner seeks, since where to begin takes requests that have no place in
        a callback. A fetch may still slip out before the pause and find offset 0 deleted.
        """
        places = [TopicPartition(self._topic, p, 0) for p in partitions]
        self._paused.update(p.partition for p in places)
        self._take(consumer, places)

    def leave(self, partitions: Iterable[int]) -> None:
        """Another member's now."""
        for partition in partitions:
            self._forget(partition)
            self._paused.discard(partition)
            self._strayed.discard(partition)
            self._places.pop(partition, None)
            self._silence.leave([partition])

    def counts(self, consumer: Consumer, partition: int) -> bool:
        """Whether a message of a partition means anything: its owner has sought it, and wants it to be read."""
        if partition not in self._sought:
            return False
        if partition not in self._paused:
            return True
        # A pause was lost. What has come is left out, and read again when the owner wants it.
        if partition not in self._strayed:
            self._strayed.add(partition)
            consumer.pause([TopicPartition(self._topic, partition)])
        return False

    def end(self, partition: int) -> int:
        """The end that was reached since the last seek, past transaction markers and aborted records; 0 before."""
        return self._ends.get(partition, 0)

    def reached_end(self, partition: int, offset: int) -> None:
        self._ends[partition] = offset
        self._silence.heard(partition)

    def polled(self, records: Iterable[Record], *, nothing_came: bool) -> None:
        """These are handed out; `nothing_came`: the local queue was empty."""
        self._nothing_came = nothing_came
        for record in records:
            self._places[record.partition] = record.offset + 1
            self._silence.heard(record.partition)

    def seek(self, consumer: Consumer, partition: int, offset: int) -> None:
        """See `GroupConsumer.seek`."""
        place = TopicPartition(self._topic, partition, offset)
        known = partition in self._sought
        # Whatever fails here, the next try takes the long way. An end that was reached before says nothing of what is
        # read again from here.
        self._forget(partition)
        with translated(f"seeking {self._topic} [{partition}] to {offset}"):
            if known:
                consumer.seek(place)
            else:
                self._take_again(consumer, place)
        self._found(partition, offset)

    def pause(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        places = [TopicPartition(self._topic, p) for p in partitions]
        self._silence.leave(p.partition for p in places)
        self._paused.update(p.partition for p in places)
        consumer.pause(places)

    def resume(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        wanted = list(partitions)
        nothing_was_read = not self._sought - self._paused
        self._paused.difference_update(wanted)
        for partition in self._strayed.intersection(wanted):
            self._strayed.discard(partition)
            # What came while it was paused is read again. A failure leaves it standing still, which is noticed.
            with suppress(KafkaException):
                self._take_again(consumer, TopicPartition(self._topic, partition, self._places[partition]))
        consumer.resume([TopicPartition(self._topic, p) for p in wanted])
        if nothing_was_read:
            self._wake(consumer, wanted)
        self._silence.watch(p for p in wanted if p in self._sought)

    def revive(self, consumer: Consumer) -> None:
        """Take a partition anew that stands still: nothing comes, and its log goes on behind where it is read.

        A partition that stands still in a worker that is ready is the worst way to fail.
        """
        partition = self._silence.due()
        if partition is None:
            return
        place = self._places[partition]
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=ASK_TIMEOUT_S)
        except KafkaException as exception:
            # Whatever uses the broker says that it is away.
            log.debug("looking at %s [%d]: %s", self._topic, partition, exception.args[0])
            self._silence.failed()
            return
        behind = end > max(place, self.end(partition))
        fetched = {p: self._fetched(consumer, p) for p in self._places} if behind else {}
        if not self._silence.stalled(partition, Look(behind, end, self._nothing_came, fetched)):
            return
        log.error(
            "%s [%d] brought no record for %.0f s, although its log goes on from %d to %d; it is taken anew",
            self._topic, partition, self._silence.silent_s(partition), place, end,
        )  # fmt: skip
        try:
            self._take_again(consumer, TopicPartition(self._topic, partition, place))
        except KafkaException as exception:
            log.warning("taking %s [%d] anew: %s; tried again", self._topic, partition, exception.args[0])
            self._silence.failed()
            return
        self.revived += 1
        self._silence.revived(partition)

    def _wake(self, consumer: Consumer, partitions: Iterable[int]) -> None:
        """Have fetching begin now: a broker's thread that fetches nothing sleeps for up to a second, resumed or not.

        A request wakes it; the cheapest asks for the ends. It is answered at once, as no fetch is before it. With no
        time to wait it would count as timed out, which costs the connection.
        """
        with suppress(KafkaException):
            consumer.offsets_for_times([TopicPartition(self._topic, p, OFFSET_END) for p in partitions], WAKE_TIMEOUT_S)

    def _forget(self, partition: int) -> None:
        self._sought.discard(partition)
        self._ends.pop(partition, None)

    def _found(self, partition: int, offset: int) -> None:
        self._sought.add(partition)
        self._places[partition] = offset
        self._silence.begins(partition)

    def _fetched(self, consumer: Consumer, partition: int) -> int:
        """The end as of the partition's last fetch, or where it is read if that is further; no request."""
        _, high = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return max(int(high), self._places[partition])

    def _take_again(self, consumer: Consumer, place: TopicPartition) -> None:
        """Give a partition back and take it at the right place; it is read only if its owner wants it.

        Where a fetch has found a new partition's first place deleted, librdkafka refuses to seek.
        """
        # It is not there when the second half of an earlier try has failed.
        if any(held.partition == place.partition for held in consumer.assignment()):
            consumer.incremental_unassign([place])
        self._take(consumer, [place])
        if place.partition not in self._paused:
            consumer.resume([place])

    @staticmethod
    def _take(consumer: Consumer, places: list[TopicPartition]) -> None:
        """Take partitions at these places, paused.

        librdkafka's main thread begins to fetch after `incremental_assign` has returned (a partition given back just
        before must stop first). A pause that overtakes this makes it outdated, and the partition is never read. What
        the main thread answers here comes after what it has begun.
        """
        consumer.incremental_assign(places)
        with suppress(KafkaException):  # it is being closed
            consumer.assignment()
        consumer.pause(places)
