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
        self._look_at_s = 0.0
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
            self._renew_when_lost(self._watcher)
            raise
        return low, high

    def start(self, partition: int, offset: int) -> None:
        """Read one partition from here on; what was read before is left."""
        self._partition = partition
        self.starts += 1
        self._look_at_s = time.monotonic() + SILENT_S
        with translated(f"reading {self._topic} [{partition}]"):
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])

    def read(self, records_max: int, wait_s: float) -> tuple[list[Record], int | None]:
        """Records in order, and the offset of the end if it was reached.

        The end moves past a transaction's marker, and is held back by an open transaction.
        """
        records: list[Record] = []
        end = None
        messages = self._consumer.consume(records_max, wait_s)
        if messages:
            self._look_at_s = time.monotonic() + SILENT_S
        else:
            self._renew_when_lost(self._consumer)
        for message in messages:
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
        return records, end

    def close(self) -> None:
        self._consumer.close()
        self._watcher.close()

    def _renew_when_lost(self, client: Consumer) -> None:
        """Nothing comes: is this client still one of the cluster's? With a new one all start again."""
        if time.monotonic() < self._look_at_s:
            return
        lost = is_lost(client, self._configuration, self._topic)
        self._look_at_s = time.monotonic() + SILENT_S
        if not lost:
            return
        log.error("a client that reads %s has lost all brokers, and others reach them: it is replaced", self._topic)
        self.close()
        self._consumer, self._watcher = self._clients()
        self._partition = -1
        self.starts += 1
