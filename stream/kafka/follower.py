"""Following several topics at once, outside of any group."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from stream.config import Settings
from stream.errors import StageStopped
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.records import Record, record_of

log = logging.getLogger("dejaview.kafka")


class Follower:
    """Reads all partitions of some topics, committed records only, from now on or from their start.

    Order holds within a partition only. Partitions added later are not seen.
    """

    def __init__(self, settings: Settings, partitions: Mapping[str, int], *, from_start: bool) -> None:
        """Stand at the start or the end of every partition.

        Args:
            partitions: topic -> number of partitions.
            from_start: what is there already is read too; otherwise what is committed from here on.

        Raises:
            BrokerUnavailable, TopicMissing, NotPermitted: an end is not known.
        """
        self._timeout_s = settings.kafka.request_timeout_s
        own = {
            "group.id": f"{settings.kafka.group_prefix}-follower",
            "enable.auto.commit": False,
            # Where retention overtakes it, it goes on at what is left.
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
        }
        with option_errors():
            self._consumer = Consumer(configuration(settings, settings.kafka.consumer_options, own))
        places = [TopicPartition(topic, p) for topic, count in partitions.items() for p in range(count)]
        for place in places:
            # The end is asked for here: one that librdkafka finds out later would miss what comes meanwhile.
            place.offset = OFFSET_BEGINNING if from_start else self._end(place)
        self._consumer.assign(places)

    def read(self, records_max: int, wait_s: float) -> list[Record]:
        """What has come; waits until there are `records_max` or the time is over.

        Raises:
            StageStopped: something that no retry mends. Errors that mend themselves are logged.
        """
        records: list[Record] = []
        for message in self._consumer.consume(records_max, wait_s):
            error = message.error()
            if error is None:
                records.append(record_of(message))
                continue
            mapped = translate(error, f"following {message.topic() or 'the topics'}")
            if isinstance(mapped, StageStopped):
                raise mapped
            log.warning("%s", mapped)
        return records

    def close(self) -> None:
        self._consumer.close()

    def _end(self, place: TopicPartition) -> int:
        with translated(f"reading the offsets of {place.topic} [{place.partition}]"):
            _, end = self._consumer.get_watermark_offsets(place, timeout=self._timeout_s)
        return int(end)
