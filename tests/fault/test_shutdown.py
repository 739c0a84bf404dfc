"""R9: a worker that is told to stop, stops in time and loses nothing, whatever hangs around it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run
from tests.support.deployment import SentUpload, Worker, until
from tests.support.proxy import Mode

pytestmark = [pytest.mark.fault, pytest.mark.alone, pytest.mark.timeout(900)]

# Beyond the drain: the health server and the process itself end.
END_S = 2.0
# Shorter than what a stage may wait for an answer that does not come: the drain's limit must end it.
HUNG_DRAIN_S = 5.0
HUNG_CALL_S = 30.0
STUCK_S = 2.0
HUNG: dict[str, Any] = {"drain_s": HUNG_DRAIN_S, "index": {"timeout_s": HUNG_CALL_S}}
FINISHED_WITHIN_S = 120.0
# Without any answer during a rolling restart: a decider's start, which opens its partitions, is in it.
SILENCE_MAX_S = 30.0


def paced(made: Iterator[SentUpload], rate: float, enough: Event) -> Iterator[SentUpload]:
    """The same uploads, so many a second, until it is enough."""
    begun = time.monotonic()
    for n, upload in enumerate(made):
        enough.wait(max(0.0, begun + n / rate - time.monotonic()))
        if enough.is_set():
            return
        yield upload


@contextmanager
def load(this: Round, rate: float) -> Iterator[None]:
    """Uploads at this rate for as long as it takes; the shape's number of them at most."""
    shape, enough = this.shape, Event()
    this.load.send(made=paced(shape.made(this.seed), rate, enough), batch=max(1, int(rate / 5)))
    try:
        yield
        assert this.sent < shape.uploads, "no hit: the load was over before the faults were"
    finally:
        enough.set()


@dataclass
class Ending:
    """Workers that were told to stop at the same moment, and when each was gone."""

    workers: dict[str, Worker]
    begun_s: float = field(default_factory=time.monotonic)
    took_s: dict[str, float] = field(default_factory=dict)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    def look(self) -> bool:
        """Note who is gone; True when all are."""
        for name, worker in self.workers.items():
            if name not in self.took_s and worker.process.poll() is not None:
                self.took_s[name] = round(time.monotonic() - self.begun_s, 2)
        return len(self.took_s) == len(self.workers)

    def wait(self, timeout_s: float) -> dict[str, int | None]:
        """Wait until all are gone; their exit codes. Fails when one is not."""
        until(self.look, timeout_s, lambda: f"still there: {set(self.workers) - set(self.took_s)}, gone {self.took_s}")
        return {name: worker.process.returncode for name, worker in self.workers.items()}


def end(this: Round, names: Sequence[str]) -> Ending:
    """SIGTERM to all of them."""
    ending = Ending({name: this.workers[name] for name in names})
    ending.signal()
    return ending


def launch_all(this: Round, name: str, **values: Any) -> None:
    """A worker of all stages, as `dejaview run` starts it."""
    this.workers[name] = this.deployment.start(name, **values)


def launch_each(this: Round, **values: Any) -> list[str]:
    """One worker of every stage and one of all stages; ready."""
    names = ["encode-0", "decide-0", "index-0"]
    for name in names:
        this.launch(name, **values)
    launch_all(this, "all-0", **values)
    names.append("all-0")
    this.wait_ready(names)
    return names


def busy(this: Round, names: Sequence[str]) -> None:
    """Wait until each of them has taken in something since the call: the load goes on, so there is more now."""
    for name in names:
        takes_in(name, this.workers[name])


def takes_in(name: str, worker: Worker) -> None:
    before = events(worker)
    until(lambda: events(worker) > before, 60, lambda: f"no hit: {name} has nothing to do")


def events(worker: Worker) -> float:
    """Records that its stages have read."""
    return sum(value for name, value in worker.metrics().items() if name.startswith("dejaview_events_total"))


def longest_gap_s(times_s: Sequence[float], begun_s: float, ended_s: float) -> float:
    inside = [begun_s, *(t for t in times_s if begun_s < t < ended_s), ended_s]
    return max(later - earlier for earlier, later in pairwise(inside))


def roll(cluster: Cluster, folder: Path, shape: Shape, rate: float) -> None:
    """Restart every worker, one after another, under load."""
    with Round(cluster, folder, "rolling", seed_of_this_run(), shape) as this:
        this.start()
        drain_s = this.deployment.settings.drain_s
        took_s: dict[str, float] = {}
        with load(this, rate):
            until(lambda: this.answers.count > 0, 60, this.tails)
            begun = time.monotonic()
            for name in list(this.workers):
                busy(this, [name])
                ending = end(this, [name])
                assert ending.wait(drain_s) == {name: 0}, f"{name}: {this.workers[name].log.read_text()[-2000:]}"
                took_s |= ending.took_s
                this.launch(name)
                this.wait_ready([name])
            gap_s = longest_gap_s(this.answers.times_s, begun, time.monotonic())
        this.note("rolled", drains_s=took_s, longest_gap_s=round(gap_s, 2), seconds=round(time.monotonic() - begun, 1))
        this.finish(FINISHED_WITHIN_S)
        assert gap_s < SILENCE_MAX_S


def test_rolling_restart(cluster: Cluster, tmp_path: Path) -> None:
    """R9: all workers are restarted one after another under load: exit codes 0, nothing lost, no long silence.

    Break: `encode-commits-what-it-took`.
    """
    roll(cluster, tmp_path, Shape(uploads=8_000, tenants=24, encoders=2, deciders=2), rate=25)


@pytest.mark.long
def test_rolling_restart_of_a_larger_deployment(cluster: Cluster, tmp_path: Path) -> None:
    """R9: three encoders, two deciders, two indexers."""
    roll(cluster, tmp_path, Shape(uploads=20_000, tenants=24, encoders=3, deciders=2, indexers=2), rate=40)


def test_shutdown_while_a_server_hangs(cluster: Cluster, tmp_path: Path) -> None:
    """R9: with Milvus suspended, then with Kafka suspended, every worker is gone within drain_s and 2 s.

    Each call of theirs may wait for 30 s, drain_s is 5 s. The exit code may be 1. Nothing is lost afterwards.
    Break: `wait-for-ever`.
    """
    with Round(cluster, tmp_path, "hung", seed_of_this_run(), Shape(uploads=8_000, tenants=24)) as this:
        names = launch_each(this, **HUNG)
        with load(this, 40):
            for server, stuck in ((cluster.milvus, names[1:]), (cluster.kafka, names)):
                busy(this, names)
                server.suspend()
                this.note("suspended", server=server.name, answered=this.answers.count, sent=this.sent)
                # Every loop asks its servers at least once a second.
                time.sleep(STUCK_S)
                ending = end(this, stuck)
                try:
                    codes = ending.wait(HUNG_DRAIN_S + END_S)
                finally:
                    cluster.resume(server)
                this.note("gone", server=server.name, took_s=ending.took_s, codes=codes)
                assert set(codes.values()) <= {0, 1}
                assert max(ending.took_s.values()) > HUNG_DRAIN_S - 0.5, "no hit: nobody was stuck"
                for name in set(names) - set(stuck):
                    assert this.workers[name].terminate() == 0
                launch_each(this, **HUNG)
        this.finish(FINISHED_WITHIN_S)


@pytest.mark.long
def test_more_signals_during_the_drain(cluster: Cluster, tmp_path: Path) -> None:
    """R9: SIGTERM and SIGINT again and again while a worker drains change nothing: exit code 0, nothing lost.

    Kafka is suspended when the drain begins, so that the drain waits, and goes on a second later; the signals come
    until the process is gone. Break: `second-signal-kills`.
    """
    with Round(cluster, tmp_path, "signals", seed_of_this_run(), Shape(uploads=8_000, tenants=24)) as this:
        names = launch_each(this)
        with load(this, 40):
            busy(this, names)
            cluster.kafka.suspend()
            ending = end(this, names)
            again = 0
            suspended = True
            while not ending.look():
                waited_s = time.monotonic() - ending.begun_s
                if suspended and waited_s > 1.0:
                    cluster.kafka.resume()
                    suspended = False
                assert waited_s < this.deployment.settings.drain_s + END_S, set(names) - set(ending.took_s)
                ending.signal((signal.SIGTERM, signal.SIGINT)[again % 2])
                again += 1
                time.sleep(0.02)
            codes = ending.wait(0)
            this.note("gone", signals=again, took_s=ending.took_s, codes=codes)
            assert set(codes.values()) == {0}, codes
            assert max(ending.took_s.values()) > 1.0, "no hit: the signals came after the drain"
            launch_each(this)
        this.finish(FINISHED_WITHIN_S)


def said(worker: Worker, words: str) -> None:
    """Wait until a worker has said this."""
    until(lambda: words in worker.log.read_text(), 60, lambda: worker.log.read_text()[-1000:])


@pytest.mark.parametrize("server", ["kafka", "milvus"])
def test_sigterm_while_starting(cluster: Cluster, tmp_path: Path, server: str) -> None:
    """R9: a worker that cannot start, because Kafka or Milvus refuses it or does not answer, ends when it is told to.

    Break: `wait-for-ever`, with Milvus silent.
    """
    deployment = cluster.deployment(tmp_path / server, 3)
    proxy = cluster.proxies[server]
    for mode in (Mode.RESET, Mode.DROP):
        proxy.mode = mode
        workers = {name: deployment.start(f"{name}-{mode}", *stage, **HUNG) for name, stage in STARTING.items()}
        until(lambda: proxy.touched >= len(STARTING), 60, lambda: "no hit: nobody asked the server")
        for worker in workers.values():
            if server == "milvus":
                said(worker, "dejaview runs")
            assert worker.process.poll() is None, worker.log.read_text()[-1000:]
        ending = Ending(workers)
        ending.signal()
        codes = ending.wait(HUNG_DRAIN_S + END_S)
        sys.stdout.write(f"{server} {mode}: {ending.took_s} {codes}\n")
        # Before the first answer of Kafka there is nothing to drain: the signal ends the process.
        assert set(codes.values()) <= ({0, 1} if server == "milvus" else {0, 1, -signal.SIGTERM}), codes
        proxy.mode = Mode.PASS
    deployment.close()


STARTING: dict[str, list[str]] = {"decide": ["decide"], "all": []}
