"""R4, never fail open: while Milvus does not answer there is no verdict, and afterwards all are right.

First pictures are judged, indexed, and leave the windows: from then on only the index knows them. Then their copies
are sent, and the fault lands while they are judged. An index that is believed where it must not be makes them `unique`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.copies import COPIES, FELT_WITHIN_S, HEALED_WITHIN_S, SHAPE, loaded, metric
from tests.fault.round import Round
from tests.support.deployment import Worker, until
from tests.support.indexed import assert_index_is_the_ledgers
from tests.support.proxy import Mode

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]


@dataclass
class Outage:
    """What the workers and the answers did while the index could not be asked."""

    this: Round
    stages: tuple[str, ...] = ("decide", "index")
    answered: int = 0
    lag: float = 0.0
    not_ready: dict[str, str] = field(default_factory=dict)

    def _worker(self, name: str) -> Worker:
        return self.this.workers[name]

    def felt(self) -> None:
        """/readyz of every worker that uses the index falls and names it; from then on nothing is answered."""
        for name in [n for stage in self.stages for n in self.this.of(stage)]:
            until(partial(self._names_the_index, name), FELT_WITHIN_S, lambda: f"not ready: {self.not_ready}")
        # What was already in a commit is seen by the counter a moment later.
        time.sleep(1.0)
        self.answered = self.this.answers.count
        self.lag = self._lag()
        self.this.note("felt", answered=self.answered, lag=self.lag, not_ready=self.not_ready)

    def held(self, hold_s: float) -> None:
        """For so long the count of answers stands still, and the lag grows."""
        deadline = time.monotonic() + hold_s
        while time.monotonic() < deadline:
            assert self.this.answers.count == self.answered, "answered without an index"
            time.sleep(0.2)
        # The ends of paused partitions are asked for every two seconds.
        until(lambda: self._lag() > self.lag, 10, lambda: f"the lag did not grow: {self.lag} and {self._lag()}")
        assert self.this.answers.count == self.answered, "answered without an index"
        self.this.note("held", answered=self.answered, lag=self._lag(), livez=self._livez())
        assert self._livez() == {200}

    def _lag(self) -> float:
        return metric(self.this, "decide", 'dejaview_consumer_lag_records{stage="decide"}')

    def _livez(self) -> set[int]:
        return {self._worker(n).get("/livez")[0] for stage in self.stages for n in self.this.of(stage)}

    def _said(self, name: str) -> tuple[int, str]:
        return self._worker(name).get("/readyz")

    def _names_the_index(self, name: str) -> bool:
        status, text = self._said(name)
        self.not_ready[name] = text[:160]
        return status == 503 and "index" in text.replace("index partitions", "")


def stopped(this: Round, outage: Outage, hold_s: float) -> None:
    this.cluster.milvus.stop()
    outage.felt()
    outage.held(hold_s)
    this.cluster.milvus.start()


def slow(this: Round, outage: Outage, hold_s: float) -> None:
    """Every chunk takes longer than index.timeout_s (5 s)."""
    proxy = this.cluster.proxies["milvus"]
    proxy.delay_s, before = 6.0, proxy.delay_s
    try:
        proxy.mode = Mode.DELAY
        outage.felt()
        outage.held(hold_s)
    finally:
        proxy.delay_s = before
        proxy.mode = Mode.PASS


def hung(this: Round, outage: Outage, hold_s: float) -> None:
    """Connections stay open, nobody answers."""
    this.cluster.milvus.suspend()
    try:
        outage.felt()
        outage.held(hold_s)
    finally:
        this.cluster.resume(this.cluster.milvus)


def cut_off(this: Round, outage: Outage, hold_s: float) -> None:
    """Bytes go in and nothing comes out."""
    proxy = this.cluster.proxies["milvus"]
    proxy.mode = Mode.DROP
    outage.felt()
    outage.held(hold_s)
    proxy.mode = Mode.PASS


AWAY: dict[str, Callable[[Round, Outage, float], None]] = {
    "stopped": stopped,
    "slow": slow,
    "hung": hung,
    "cut-off": cut_off,
}


@pytest.mark.parametrize(
    ("fault", "hold_s"),
    [
        ("stopped", 12.0),
        *(pytest.param(fault, 60.0, marks=pytest.mark.long) for fault in AWAY),
    ],
)
def test_an_index_that_does_not_answer(cluster: Cluster, tmp_path: Path, fault: str, hold_s: float) -> None:
    """R4: Milvus is away (20 s in all in CI, with its restart) with copies in hand that only it knows: /readyz of
    deciders and indexer falls to 503 and names the index, no verdict appears, lag grows, /livez holds; healed, all is
    judged within 120 s, as the offline judge says.

    Break: `fail-open`.
    """
    with loaded(cluster, tmp_path, f"index-{fault}-{hold_s:.0f}") as this:
        this.hit(*this.of("encode"))
        AWAY[fault](this, Outage(this), hold_s)
        report = this.finish(HEALED_WITHIN_S)
        assert report["uploads"] == SHAPE.uploads
        assert report["kinds"]["duplicate"] > COPIES / 2
        assert_index_is_the_ledgers(this.deployment, this.tails)
