"""Reading a log from given offsets, outside of any group."""

from __future__ import annotations

import logging
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from stream.config import Settings
from stream.errors import BrokerUnavailable, StageStopped
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.consumer import FETCH_BYTES_MAX, QUEUED_BYTES_MAX
from stream.kafka.lost import is_lost
from stream.kafka.records import Record, record_of

log = logging.getLogger("dejaview.kafka")

# Without a record or an end for so long it is asked whether the client reaches anybody.
SILENT_S = 20.0


class LogReader:
    """Reads partitions of one topic from given offsets, committed records only, outside of any group."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._timeout_s = settings.kafka.request_timeout_s
        own = {
            "group.id": f"{settings.kafka.group_prefix}-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.max.bytes": FETCH_BYTES_MAX,
            "queued.max.messages.kbytes": QUEUED_BYTES_MAX // 1024,
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 20,
        }
        self._configuration = configuration(settings, settings.kafka.consumer_options, own)
        self._partition = -1
        # Counts the starts: a user whose start was not the last one must start again.
        self.starts = 0
        self._silent_since_s: float | None = None
        self._consumer, self._watcher = self._clients()

    def _clients(self) -> tuple[Consumer, Consumer]:
        """Who reads, and who asks for ends."""
        with option_errors():
            # The end of a log with open transactions is its high watermark, which only the second level asks for.
            reader, watcher = (
                Consumer({**self._configuration, "isolation.level": level})
                for level in ("read_committed", "read_uncommitted")
            )
        return reader, watcher

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset and high watermark, open transactions included."""
        try:
            with translated(f"reading the offsets of {self._topic} [{partition}]"):
                low, high = self._watcher.get_watermark_offsets(
                    TopicPartition(self._topic, partition), timeout=self._timeout_s
                )
        except BrokerUnavailable:
            self._heard_nothing(self._watcher)
            raise
        self._silent_since_s = None
        return low, high

    def start(self, partition: int, offset: int) -> None:
        """Read one partition from here on; what was read before is left."""
        self._partition = partition
        self.starts += 1
        with translated(f"reading {self._topic} [{partition}]"):
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])

    def read(self, records_max: int, wait_s: float) -> tuple[list[Record], int | None]:
        """Records in order, and the offset of the end if it was reached.

        The end moves past a transaction's marker, and is held back by an open transaction.
        """
        records: list[Record] = []
        end = None
        for message in self._consumer.consume(records_max, wait_s):
            error = message.error()
            if message.partition() != self._partition:
                continue
            if error is None:
                records.append(record_of(message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                end = message.offset()
            else:
                mapped = translate(error, f"reading {self._topic}")
                if isinstance(mapped, StageStopped):
                    raise mapped
                log.warning("%s", mapped)
        if records or end is not None:
            self._silent_since_s = None
        else:
            self._heard_nothing(self._consumer)
        return records, end

    def close(self) -> None:
        self._consumer.close()
        self._watcher.close()

    def _heard_nothing(self, client: Consumer) -> None:
        """For long: is this client still one of the cluster's? With new ones all start again."""
        now = time.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s = now
        if now - self._silent_since_s < SILENT_S:
            return
        self._silent_since_s = None
        if not is_lost(client, self._configuration, self._topic):
            return
        log.error("a client that reads %s has lost all brokers, and others reach them: it is replaced", self._topic)
        lost = self._consumer, self._watcher
        self._consumer, self._watcher = self._clients()
        self._partition = -1
        self.starts += 1
        for consumer in lost:
            consumer.close()
