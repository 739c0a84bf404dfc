"""End to end through real Kafka and Milvus: images/s, CPU an image, and latency over load.

Load is open: uploads are sent when they are due, answered or not, and latency counts from when they were due.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ops.bench.bare import Bare, bare_loop
from ops.bench.cost import Meter, resident_bytes
from ops.bench.records import TENANTS, tenant_of
from ops.bench.result import Figure, Line, Part, Plot
from ops.bench.rig import PARTITIONS, Arrivals, Deployment, Rig, Worker
from schemas.cloudevents import upload_headers
from stream.kafka import LogProducer, Outgoing

WARM_UP = 64
# Of the highest rate. Above 1 lag grows for as long as it lasts.
LOADS = (0.25, 0.5, 0.75, 0.9, 1.1)
# Not half alone: what the flood left to do, for INDEX and Milvus, is done in the first of them.
LOADS_TO_HALF = LOADS[:2]
RATE_MAX_PER_S = 1e9
NOTE = (
    f"Photos inline over {PARTITIONS} partitions and {TENANTS} tenants, one `dejaview run` with all stages; Kafka and "
    "Milvus on the same cores. Highest rate: all uploads are there at once. Latency: from the moment an upload was "
    "due to its verdict's arrival at a read-committed consumer. CPU: of dejaview's processes, decoders included."
)


@dataclass(frozen=True, slots=True)
class Flood:
    """All uploads at once: images/s, and CPU seconds an image by group of processes."""

    images_per_s: float
    cpu_s: dict[str, float]


def measure(rig: Rig, photos: Sequence[bytes], count: int, seconds: float) -> Part:
    """Both ways of delivery; the curve over load for `exactly_once`."""
    bare = bare_loop(photos, count)
    figures = [
        Figure("bare loop", bare.images_per_s, "images/s"),
        Figure("bare loop: CPU an image", 1000 * bare.cpu_s, "ms"),
    ]
    plots = []
    for delivery in ("exactly_once", "at_least_once"):
        loads = LOADS if delivery == "exactly_once" else LOADS_TO_HALF
        with Deployment(rig, delivery=delivery) as deployment, Arrivals(deployment.settings) as arrivals:
            run = _Run(rig, deployment, arrivals, photos)
            figures.append(Figure(f"{delivery}: start to first verdict", run.first_verdict_s(), "s"))
            flood = run.flood(count)
            latencies = {load: run.late_ms(load * flood.images_per_s, seconds) for load in loads}
            figures += _figures(delivery, bare, flood, latencies)
            figures.append(Figure(f"{delivery}: resident memory", run.resident_mb(), "MB"))
            if loads == LOADS:
                plots.append(_curve(flood, latencies))
    return Part("latency", "End to end", NOTE, figures, plots)


class _Run:
    """One deployment under one load after another."""

    def __init__(self, rig: Rig, deployment: Deployment, arrivals: Arrivals, photos: Sequence[bytes]) -> None:
        self._rig = rig
        self._deployment = deployment
        self._arrivals = arrivals
        self._photos = photos
        self._producer = LogProducer(deployment.settings)
        self._sent = 0
        self._worker: Worker | None = None

    def first_verdict_s(self) -> float:
        """From the start of a worker, with uploads waiting, to the first verdict."""
        names = list(self._send(WARM_UP, RATE_MAX_PER_S))
        begun = time.time()
        self._worker = self._deployment.start()
        arrived = self._arrivals.wait(names)
        return min(arrived) - begun

    def flood(self, count: int) -> Flood:
        """The highest rate."""
        groups = {"dejaview": self._deployment.pids, **self._rig.servers}
        meter, begun = Meter(groups), time.time()
        arrived = self._arrivals.wait(list(self._send(count, RATE_MAX_PER_S)))
        _, cpu = meter.read()
        return Flood(count / (max(arrived) - begun), {name: spent / count for name, spent in cpu.items()})

    def late_ms(self, rate_per_s: float, seconds: float) -> list[float]:
        """Latencies of an open load."""
        due = self._send(max(20, int(rate_per_s * seconds)), rate_per_s)
        arrived = self._arrivals.wait(list(due))
        return [1000 * (at - when) for at, when in zip(arrived, due.values(), strict=True)]

    def resident_mb(self) -> float:
        return sum(resident_bytes(pid) for pid in self._deployment.pids) / 1e6

    def _send(self, count: int, rate_per_s: float) -> dict[str, float]:
        """Upload id -> when it was due. Ids are new, bytes are the photos over and over."""
        due: dict[str, float] = {}
        topic, begun = self._deployment.settings.topics.uploads, time.time()
        for place in range(count):
            number, when = self._sent, begun + place / rate_per_s
            time.sleep(max(0.0, when - time.time()))
            name = f"photo-{number}"
            headers = upload_headers(name, tenant_of(number), "image/jpeg", "/bench")
            data = self._photos[number % len(self._photos)]
            self._producer.produce([Outgoing(topic, data, headers, partition=number % PARTITIONS)])
            self._producer.serve()
            due[name] = when
            self._sent += 1
        self._producer.flush()
        return due


def _figures(delivery: str, bare: Bare, flood: Flood, latencies: dict[float, list[float]]) -> list[Figure]:
    own_s = flood.cpu_s["dejaview"]
    figures = [
        Figure(f"{delivery}: highest rate", flood.images_per_s, "images/s", "bare loop", bare.images_per_s),
        Figure(f"{delivery}: CPU an image", 1000 * own_s, "ms", "bare loop", 1000 * bare.cpu_s),
    ]
    figures += [
        Figure(f"{delivery}: CPU of {name} an image", 1000 * spent, "ms", "bare loop", 1000 * bare.cpu_s)
        for name, spent in flood.cpu_s.items()
        if name != "dejaview"
    ]
    for load, late in latencies.items():
        p50, p99 = np.percentile(late, [50, 99])
        at = f"{delivery}: at {load:.0%} of it ({load * flood.images_per_s:.0f}/s)"
        figures += [Figure(f"{at}, p50", float(p50), "ms"), Figure(f"{at}, p99", float(p99), "ms")]
    return figures


def _curve(flood: Flood, latencies: dict[float, list[float]]) -> Plot:
    rates = [load * flood.images_per_s for load in latencies]
    lines = [
        Line(f"p{share}", rates, [float(np.percentile(late, share)) for late in latencies.values()])
        for share in (50, 90, 99)
    ]
    return Plot("Latency over load, exactly_once", "images/s", "ms", lines, logarithmic=True)
