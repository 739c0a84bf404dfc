"""R8: ten times more than the capacity, with a slow index: memory stays under the formula, the groups stay whole."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from confluent_kafka.admin import AdminClient

from ops.capacity import decoders_bound_bytes, worker_bound_bytes
from stream.config import Settings
from stream.kafka import LogProducer
from stream.service import Stage
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.overload import Load, offer, records
from tests.fault.round import Round, seed_of_this_run, stage_of
from tests.support.deployment import Worker, merge, until
from tests.support.memory import MemoryWatch, rss_bytes
from tests.support.proxy import Mode

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

FACTOR = 10
# The rate that is really offered, a slow machine considered.
FACTOR_MIN = 8
INDEX_DELAY_S = 0.15
CAPACITY_S = 8.0
SHAPE = Shape(tenants=24, partitions=4, encoders=1, deciders=1)
MOVED = re.compile(r"gave up|assigned|lost")
# Small bounds, so that a break of one of them shows soon. They add up to what the formula says all the same.
VALUES: dict[str, Any] = {
    "intake": {"bytes_max": 5_000_000, "fetchers": 2, "decoders": 1, "decode_memory_bytes": 600_000_000},
    "encode": {"batch_items_max": 16, "in_flight_items_max": 64, "in_flight_bytes_max": 32_000_000},
    "decide": {"batch_items_max": 16, "window_rows_max": 96, "memory_entries_max": 2_000},
    "ledger_index": {"batch_items_max": 64},
}


@dataclass
class Watchdog:
    """Looks at members, liveness and windows while it runs."""

    settings: Settings
    workers: Mapping[str, Worker]
    members: list[dict[str, list[str]]] = field(default_factory=list)
    not_live: list[str] = field(default_factory=list)
    window_rows: float = 0.0
    in_flight_bytes: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.bootstrap_servers, "log_level": 0})
        groups = [f"{self.settings.kafka.group_prefix}-{stage}" for stage in Stage]
        while not self._stop.wait(1.0):
            described = admin.describe_consumer_groups(groups, request_timeout=10)
            found = {name: future.result().members for name, future in described.items()}
            self.members.append({name: sorted(m.member_id for m in members) for name, members in found.items()})
            for name, worker in self.workers.items():
                status, text = worker.get("/livez")
                if status != 200:
                    self.not_live.append(f"{name}: {status} {text}")
                metrics = worker.metrics()
                self.window_rows = max(self.window_rows, metrics.get("dejaview_window_rows", 0))
                self.in_flight_bytes = max(self.in_flight_bytes, metrics.get("dejaview_in_flight_bytes", 0))


def overload(cluster: Cluster, folder: Path, for_s: float, finished_within_s: float) -> None:
    """Measure the capacity with a slow index, offer ten times as much, heal, prove."""
    seed = seed_of_this_run()
    photographs = folder / "photographs"
    photographs.mkdir()
    load = Load(photographs, seed, SHAPE.tenants, SHAPE.partitions)
    values = merge(VALUES, {"intake": {"file_roots": [str(photographs)]}})
    with Round(cluster, folder, f"overload-{for_s:g}", seed, SHAPE, **values) as this:
        settings = this.deployment.settings
        producer = LogProducer(settings)
        this.start()
        cluster.proxies["milvus"].delay_s = INDEX_DELAY_S
        cluster.proxies["milvus"].mode = Mode.DELAY
        capacity = measure_capacity(this, producer, load)
        prepared = records(settings.topics.uploads, load.uploads(int(FACTOR * capacity * for_s), bursts=True))
        logs = {name: len(worker.log.read_text()) for name, worker in this.workers.items()}

        def pids() -> dict[str, int]:
            return {name: worker.process.pid for name, worker in this.workers.items()}

        def sent(count: int, before: int = this.sent) -> None:
            this.sent = before + count

        at_rest = {name: rss_bytes(pid) // 1_000_000 for name, pid in pids().items()}
        bounds = bounds_mb(settings, list(this.workers))
        begun, answered = time.monotonic(), this.answers.count
        with MemoryWatch(pids) as memory, Watchdog(settings, this.workers) as watchdog:
            reached = offer(producer, prepared, FACTOR * capacity, sent)
            took_s = time.monotonic() - begun
            judged = (this.answers.count - answered) / took_s
            backlog = this.sent - this.answers.count
            this.note("overloaded", capacity=round(capacity, 1), offered=round(reached, 1), judged=round(judged, 1),
                      seconds=round(took_s), backlog=backlog, kinds=load.kinds, before_mb=at_rest)  # fmt: skip
            assert cluster.proxies["milvus"].touched > 0, "no hit: the index was not slow"
            assert reached >= FACTOR_MIN * capacity
            assert backlog > this.sent / 2, "no hit: the load was no overload"
            bounded(this, memory, watchdog, bounds)
            full = settings.encode.in_flight_bytes_max - settings.topics.message_bytes_max - settings.intake.bytes_max
            assert watchdog.in_flight_bytes > full, "no hit: bytes were never the limit"
            cluster.heal()
            # The backlog is worked off under the same eyes.
            until(lambda: this.answers.count >= this.sent, finished_within_s, lambda: f"{this.answers.count} answered")
            this.note("worked off", seconds=round(time.monotonic() - begun - took_s))
            bounded(this, memory, watchdog, bounds)
        assert not watchdog.not_live, watchdog.not_live[:5]
        other = [seen for seen in watchdog.members if seen != watchdog.members[0]]
        assert not other, f"the groups changed: {watchdog.members[0]}, {other[0]}"
        moved = {n: MOVED.findall(w.log.read_text()[logs[n] :]) for n, w in this.workers.items()}
        assert not any(moved.values()), moved
        this.finish(10.0)


def bounded(this: Round, memory: MemoryWatch, watchdog: Watchdog, bounds: Mapping[str, int]) -> None:
    """Every process has stayed under its bound, and what the stages count under theirs."""
    peaks, decoders = memory.peaks(memory.workers), memory.peaks(memory.decoders)
    settings = this.deployment.settings
    this.note("memory", bounds_mb=bounds, peaks_mb=peaks, decoders_mb=decoders, window_rows=watchdog.window_rows,
              in_flight_bytes=watchdog.in_flight_bytes)  # fmt: skip
    over = {name: mb for name, mb in peaks.items() if mb > bounds[name]}
    over |= {f"{name}'s decoder": mb for name, mb in decoders.items() if mb > bounds["decoder"]}
    assert not over, f"MB over the bound: {over}, {bounds}"
    assert watchdog.in_flight_bytes <= settings.encode.in_flight_bytes_max
    assert watchdog.window_rows <= settings.decide.window_rows_max * SHAPE.partitions


def measure_capacity(this: Round, producer: LogProducer, load: Load) -> float:
    """Answers per second with a backlog and a slow index."""
    prepared = records(this.deployment.settings.topics.uploads, load.uploads(400, bursts=False))
    producer.produce(prepared)
    producer.flush()
    this.sent += len(prepared)
    until(lambda: this.answers.count > 20, 60, this.tails)
    begun, before = time.monotonic(), this.answers.count
    until(lambda: time.monotonic() - begun > CAPACITY_S or this.answers.count == this.sent, 60)
    capacity = (this.answers.count - before) / (time.monotonic() - begun)
    this.note("capacity", per_s=round(capacity, 1), answered=this.answers.count)
    return capacity


def bounds_mb(settings: Settings, workers: list[str]) -> dict[str, int]:
    """The formula, for every worker's own process and for one decoder process."""
    found = {name: worker_bound_bytes(settings, [Stage(stage_of(name))]) // 1_000_000 for name in workers}
    encode = [Stage.ENCODE]
    found["decoder"] = decoders_bound_bytes(settings, encode) // settings.intake.decoders // 1_000_000
    return found


@pytest.mark.long
def test_overload_with_a_slow_index(cluster: Cluster, tmp_path: Path) -> None:
    """R8, 40 s of ten times the capacity: every process stays under `ops.capacity`'s bound, the groups keep their
    members, /livez says 200 all the time, and in the end everything is answered, as the offline judge does.

    Break: `take-without-end`.
    """
    overload(cluster, tmp_path, 40.0, 400.0)


@pytest.mark.long
def test_overload_with_a_slow_index_for_three_minutes(cluster: Cluster, tmp_path: Path) -> None:
    """R8, the same for 3 minutes."""
    overload(cluster, tmp_path, 180.0, 600.0)
