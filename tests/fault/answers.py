"""How many answers there are, while a round runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

from tests.support.deployment import Deployment


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
        topics = [*settings.topics.verdicts, settings.topics.deadletters]
        consumer.assign([TopicPartition(t, p, 0) for t in topics for p in range(settings.topics.partitions)])
        while not self._stop.is_set():
            came = sum(message.error() is None for message in consumer.consume(1_000, 0.1))
            if came:
                self.count += came
                self.times_s.append(time.monotonic())
        consumer.close()
