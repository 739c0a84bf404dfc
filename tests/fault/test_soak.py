"""An hour (`FAULT_SOAK_S`) of mixed load with random faults: every answer is right, and memory does not grow."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from ops.capacity import MEMORY_ENTRY_BYTES
from stream.errors import BrokerUnavailable
from tests.fault.cluster import Cluster
from tests.fault.faults import FAULTS, STAGES
from tests.fault.load import Shape
from tests.fault.overload import Load
from tests.fault.round import READY_S, Round, seed_of_this_run
from tests.support.deployment import SentUpload, until
from tests.support.memory import MemoryWatch, Samples

SOAK_S = float(os.environ.get("FAULT_SOAK_S", "3600"))
pytestmark = [pytest.mark.fault, pytest.mark.long, pytest.mark.timeout(int(2 * SOAK_S + 1_200))]

RATE = 15.0
FAULT_EVERY_S = 40.0
HOLD_S = 12.0
FINISHED_WITHIN_S = 300.0
HEALED_WITHIN_S = 120.0
SAMPLED_EVERY_S = 2.0
# A slope says nothing before caches, windows and memories have filled: of the processes that lived this share of the
# soak (10 minutes at most), the second half of their lives counts.
LIVED_SHARE, LIVED_MAX_S = 0.4, 600.0
# What that half may grow by in all; a short soak has a slope of its own noise.
GROWTH_MAX_MB = 15.0
SLOPE_MAX_MB_PER_MINUTE = min(2.0, GROWTH_MAX_MB / (SOAK_S / 120))
# DECIDE remembers every upload, up to `decide.memory_entries_max` a partition, which the soak does not reach.
FILLING_MB_PER_MINUTE = {"decide": RATE * 60 * MEMORY_ENTRY_BYTES / 1e6}
BAD = 0.03
# A fault that takes a worker away for good would leave none after some hours; one that adds, too many.
ONCE = ("add-", "remove-")


def until_then(made: Iterator[SentUpload], rate: float, for_s: float) -> Iterator[SentUpload]:
    """So many uploads a second, until the time is over."""
    begun = time.monotonic()
    for n, upload in enumerate(made):
        now = time.monotonic()
        if now - begun > for_s:
            return
        time.sleep(max(0.0, begun + n / rate - now))
        yield upload


def wait_since(begun_s: float, for_s: float) -> None:
    """Until so much time has passed since then."""
    time.sleep(max(0.0, begun_s + for_s - time.monotonic()))


def caught_up(this: Round) -> float:
    """Seconds until all that was sent before a fault was healed is answered: the next one meets whole workers."""
    healed_s, sent = time.monotonic(), arrived(this)
    until(
        lambda: this.answers.count >= sent, HEALED_WITHIN_S, lambda: f"{this.answers.count} of {sent}; {this.tails()}"
    )
    return round(time.monotonic() - healed_s, 1)


def arrived(this: Round) -> int:
    """Uploads on the broker (of a batch whose sending failed some may be), once it leads its partitions again."""
    deadline = time.monotonic() + HEALED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(BrokerUnavailable):
            return this.deployment.arrived()
        time.sleep(0.5)
    return this.deployment.arrived()


def strike(this: Round, fault: str) -> bool:
    """One fault; False when it found nothing in flight at that moment, as the load is moderate."""
    try:
        FAULTS[fault](this, HOLD_S)
    except AssertionError as error:
        if "no hit" not in str(error):
            raise
        this.note("missed", fault=fault, why=str(error)[:200])
        return False
    return True


def slopes(workers: Mapping[tuple[str, int], Samples], lived_s: float) -> dict[str, float]:
    """MB per minute of every process that lived long enough."""
    return {
        f"{name} ({pid})": round(samples.slope_bytes_per_s() * 60 / 1e6, 3)
        for (name, pid), samples in workers.items()
        if samples.lived_s >= lived_s
    }


def test_soak(cluster: Cluster, tmp_path: Path) -> None:
    """R1, R2, R8: nothing lost or said twice, verdicts are the offline judge's, resident memory has no slope. Of a
    hundred uploads two are photographs of 4 MB, two references to one, three end as dead letters.

    Break: `remember-every-poll` (tests/support/sabotage.py): a worker keeps every record that it has read.
    """
    seed = seed_of_this_run()
    rng = random.Random(seed)
    faults = [name for name in FAULTS if not name.startswith(ONCE)]
    shape = Shape(uploads=int(RATE * SOAK_S), tenants=12, partitions=6, deciders=1)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    mixed = Load(photographs, seed, shape.tenants, shape.partitions)
    with Round(cluster, tmp_path, "soak", seed, shape, intake={"file_roots": [str(photographs)]}) as this:
        this.start()
        # No fault of a worker lands on these: they live long enough to have a slope.
        steady = {f"{stage}-steady": this.deployment.start(f"{stage}-steady", stage) for stage in STAGES}
        for worker in steady.values():
            worker.wait_ready(READY_S)
        begun = time.monotonic()
        made = mixed.uploads(10 * shape.uploads, bursts=False, bad=BAD)
        this.load.send(made=until_then(made, RATE, SOAK_S), batch=15)
        done: list[str] = []
        missed: list[str] = []
        healed_s: list[float] = []

        def pids() -> dict[str, int]:
            running = {**this.workers, **steady}
            return {n: w.process.pid for n, w in running.items() if w.process.poll() is None}

        with MemoryWatch(pids, SAMPLED_EVERY_S) as memory:
            while time.monotonic() - begun < SOAK_S - FAULT_EVERY_S:
                fault_s = time.monotonic()
                fault = rng.choice(faults)
                this.note("fault", fault=fault, answered=this.answers.count, sent=this.sent)
                (done if strike(this, fault) else missed).append(fault)
                this.cluster.heal()
                healed_s.append(caught_up(this))
                wait_since(fault_s, FAULT_EVERY_S)
            this.load.join()
            until(lambda: this.answers.count >= this.sent, FINISHED_WITHIN_S, this.tails)
        found = slopes(memory.workers, min(LIVED_MAX_S, LIVED_SHARE * SOAK_S))
        this.note("soaked", seconds=round(time.monotonic() - begun), faults=done, missed=missed,
                  healed_s=healed_s, mb_per_minute=found,
                  peaks_mb=memory.peaks(memory.workers), decoders_mb=memory.peaks(memory.decoders))  # fmt: skip
        report = this.finish(FINISHED_WITHIN_S)
        assert report["kinds"]["unique"] > 0
        assert report["kinds"]["duplicate"] > 0
        assert set(report["reasons"]) == {"unsupported_format", "id_conflict"}
        assert min(mixed.kinds.values()) > 0, mixed.kinds
        assert len(done) > len(missed), f"no hit: {missed} found nothing to land on"
        assert found, "no process lived long enough to have a slope"
        steep = {
            name: slope
            for name, slope in found.items()
            if slope > SLOPE_MAX_MB_PER_MINUTE + FILLING_MB_PER_MINUTE.get(name.split("-")[0], 0.0)
        }
        assert not steep, f"memory grows (MB per minute): {steep}"
