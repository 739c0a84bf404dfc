"""How many answers there are, while a round runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

from tests.support.deployment import Deployment

SILENT_S = 20.0


@dataclass
class Answers:
    """Counts committed verdicts and dead letters as they appear."""

    deployment: Deployment
    count: int = 0
    # When answers came (monotonic), one time for all that came together.
    times_s: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        topics = [*self.deployment.settings.topics.verdicts, self.deployment.settings.topics.deadletters]
        ends = {(t, p): 0 for t in topics for p in range(self.deployment.settings.topics.partitions)}
        while not self._stop.is_set():
            self._read(ends)

    def _read(self, ends: dict[tuple[str, int], int]) -> None:
        """Count on from these offsets, until nothing comes: a client may have lost all brokers for good, when the last
        thing that a stopping one said was that there are none (librdkafka's issue 5301).
        """
        settings = self.deployment.settings
        consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka.bootstrap_servers,
                "group.id": "answers",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(topic, partition, end) for (topic, partition), end in ends.items()])
        came_s = time.monotonic()
        while not self._stop.is_set() and time.monotonic() < came_s + SILENT_S:
            came = [message for message in consumer.consume(1_000, 0.1) if message.error() is None]
            for message in came:
                ends[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
            if came:
                came_s = time.monotonic()
                self.count += len(came)
                self.times_s.append(came_s)
        consumer.close()
