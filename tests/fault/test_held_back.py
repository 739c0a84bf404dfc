"""R9: how long a decider that died inside a transaction holds back the readers of the verdict topics."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Consumer, TopicPartition

from stream.config import Settings
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run
from tests.fault.test_shutdown import load
from tests.support.deployment import until
from tests.support.sabotage import crash_at

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

# `transaction.abort.timed.out.transaction.cleanup.interval.ms` of the broker that `local` and the tests run.
CLEANUP_S = 1.0
# Polling of the two readers, and a machine that does other things.
SLACK_S = 2.0
DEAD_AT_COMMIT = 4

Place = tuple[str, int, int]


@dataclass
class Readers:
    """Two readers of the verdict topics, one of everything, one of what is committed; when each saw a record."""

    settings: Settings
    seen_s: dict[str, dict[Place, float]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for isolation in ("read_uncommitted", "read_committed"):
            self.seen_s[isolation] = {}
            self._threads.append(threading.Thread(target=self._read, args=(isolation,), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def held_s(self, since_s: float) -> dict[Place, float]:
        """How long each record written since then was held back from the reader of committed records."""
        written, committed = (dict(self.seen_s[n]) for n in ("read_uncommitted", "read_committed"))
        return {p: committed[p] - t for p, t in written.items() if t > since_s and p in committed}

    def _read(self, isolation: str) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.bootstrap_servers,
                "group.id": isolation,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": isolation,
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        partitions = range(self.settings.topics.partitions)
        consumer.assign([TopicPartition(t, p, 0) for t in self.settings.topics.verdicts for p in partitions])
        while not self._stop.is_set():
            for message in consumer.consume(500, 0.05):
                if message.error() is None:
                    place = (message.topic() or "", message.partition() or 0, message.offset() or 0)
                    self.seen_s[isolation].setdefault(place, time.monotonic())
        consumer.close()


@pytest.mark.long
@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_a_dead_decider_holds_readers_back_for_a_bounded_time(cluster: Cluster, tmp_path: Path, how: str) -> None:
    """R9: a decider killed (or frozen for good) between flush and commit holds back what others commit after it, for
    at most kafka.transaction_timeout_s (10 s) and the broker's clean-up interval (1 s); then everything is answered.

    Nobody starts with its instance id again: that would end the transaction at once.
    Break: `long-transactions`.
    """
    with Round(cluster, tmp_path, f"held-back-{how}", seed_of_this_run(), Shape(uploads=8_000, tenants=24)) as this:
        this.start("encode", "index")
        mark = tmp_path / "mark"
        this.launch("decide-0", sabotage=crash_at("commit.4", DEAD_AT_COMMIT, mark, how))
        this.launch("decide-1")
        this.wait_ready(["decide-0", "decide-1"])
        settings = this.deployment.settings
        bound_s = settings.kafka.transaction_timeout_s + CLEANUP_S + SLACK_S
        with Readers(settings) as readers:
            with load(this, 30):
                until(mark.exists, 60, lambda: "no hit: the decider was not killed")
                dead_s = time.monotonic()
                this.note("dead", answered=this.answers.count)
                until(lambda: time.monotonic() > dead_s + bound_s, 60)
            this.finish(120.0)
            held = readers.held_s(dead_s)
        longest_s = max(held.values(), default=0.0)
        behind = sum(value > 1.0 for value in held.values())
        this.note("held back", longest_s=round(longest_s, 2), records=behind)
        assert behind > 0, "no hit: nothing that others committed was held back"
        assert longest_s > 1.0
        assert longest_s <= bound_s
