"""An hour (`FAULT_SOAK_S`) of mixed load with random faults: every answer is right, and memory does not grow."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.faults import FAULTS
from tests.fault.round import Round, Shape, seed_of_this_run
from tests.support.deployment import SentUpload, until
from tests.support.memory import MemoryWatch, Samples
from tests.support.pictures import uploads

SOAK_S = float(os.environ.get("FAULT_SOAK_S", "3600"))
pytestmark = [pytest.mark.fault, pytest.mark.long, pytest.mark.timeout(int(2 * SOAK_S + 1_200))]

RATE = 15.0
FAULT_EVERY_S = 40.0
HOLD_S = 12.0
FINISHED_WITHIN_S = 300.0
SAMPLED_EVERY_S = 2.0
# A slope says nothing before caches, windows and memories have filled: of the processes that lived this share of the
# soak (10 minutes at most), the second half of their lives counts.
LIVED_SHARE, LIVED_MAX_S = 0.4, 600.0
SLOPE_MAX_MB_PER_MINUTE = 2.0
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
    until(lambda: time.monotonic() >= begun_s + for_s, for_s + 1)


def slopes(workers: Mapping[tuple[str, int], Samples], lived_s: float) -> dict[str, float]:
    """MB per minute of every process that lived long enough."""
    return {
        f"{name} ({pid})": round(samples.slope_bytes_per_s() * 60 / 1e6, 3)
        for (name, pid), samples in workers.items()
        if samples.lived_s >= lived_s
    }


def test_soak(cluster: Cluster, tmp_path: Path) -> None:
    """R1, R2, R8: nothing lost or said twice, verdicts are the offline judge's, resident memory has no slope.

    Break: `remember-every-poll` (tests/support/sabotage.py): a worker keeps every record that it has read.
    """
    seed = seed_of_this_run()
    rng = random.Random(seed)
    faults = [name for name in FAULTS if not name.startswith(ONCE)]
    shape = Shape(uploads=int(RATE * SOAK_S), tenants=12, partitions=6, encoders=2, deciders=2)
    with Round(cluster, tmp_path, "soak", seed, shape) as this:
        this.start()
        steady = ["encode-steady", "decide-steady", "index-steady"]
        for name in steady:
            this.launch(name)
        this.wait_ready(steady)
        begun = time.monotonic()
        made = uploads(10 * shape.uploads, seed, shape.tenants, shape.partitions)
        this.send(made=until_then(made, RATE, SOAK_S), batch=15)
        done: list[str] = []

        def pids() -> dict[str, int]:
            return {n: w.process.pid for n, w in this.workers.items() if w.process.poll() is None}

        with MemoryWatch(pids, SAMPLED_EVERY_S) as memory:
            while time.monotonic() - begun < SOAK_S - FAULT_EVERY_S:
                fault_s = time.monotonic()
                # A fault needs something to land on: more uploads than answers.
                fault = rng.choice(faults)
                this.note("fault", fault=fault, answered=this.answers.count, sent=this.sent)
                FAULTS[fault](this, HOLD_S)
                this.cluster.heal()
                done.append(fault)
                wait_since(fault_s, FAULT_EVERY_S)
            assert this._sender is not None
            this._sender.join()
            until(lambda: this.answers.count >= this.sent, FINISHED_WITHIN_S, this.tails)
        found = slopes(memory.workers, min(LIVED_MAX_S, LIVED_SHARE * SOAK_S))
        this.note("soaked", seconds=round(time.monotonic() - begun), faults=done, mb_per_minute=found,
                  peaks_mb=memory.peaks(memory.workers), decoders_mb=memory.peaks(memory.decoders))  # fmt: skip
        report = this.finish(FINISHED_WITHIN_S)
        assert report["kinds"]["unique"] > 0
        assert report["kinds"]["duplicate"] > 0
        assert found, "no process lived long enough to have a slope"
        steep = {name: slope for name, slope in found.items() if slope > SLOPE_MAX_MB_PER_MINUTE}
        assert not steep, f"memory grows (MB per minute): {steep}"
