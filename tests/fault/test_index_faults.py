"""R4, never fail open: whatever happens to Milvus, no verdict is given without it, and afterwards all are right.

First pictures are judged, indexed, and leave the windows: from then on only the index knows them. Then their copies
are sent, and the fault lands while they are judged. An index that is believed where it must not be makes them `unique`.

Breaks, each tried: `fail-open` (the faults that keep Milvus away), `ignore-fall-back` (those that lose rows and links).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from models.training.edits import EDITS
from tests.fault.cluster import MILVUS_SESSION_TTL_S, Cluster
from tests.fault.round import Round, Shape, seed_of_this_run
from tests.support.deployment import SentUpload, Worker, until
from tests.support.indexed import assert_index_is_the_ledgers, index_of
from tests.support.photos import jpeg
from tests.support.pictures import drawn
from tests.support.proxy import Mode

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

FIRST, COPIES, NEW = 240, 480, 120
SHAPE = Shape(uploads=FIRST + COPIES + NEW)
FELT_WITHIN_S = 30.0
HEALED_WITHIN_S = 120.0
COPY_EDITS = ("jpeg_50", "brightness", "contrast", "grey")
LINKS = '"_links"'


def pictures(seed: int) -> list[tuple[int, SentUpload]]:
    """What is sent first: every picture new to its tenant."""
    rng = random.Random(seed)
    made = []
    for n in range(FIRST):
        number = seed * 1_000_003 + n
        value = jpeg(drawn(number), 85)
        made.append((number, SentUpload(f"first-{n}", value, f"tenant-{n % 6}", rng.randrange(6))))
    return made


def copies(seed: int, first: list[tuple[int, SentUpload]]) -> Iterator[SentUpload]:
    """Edited and identical copies of what was sent first, and a few new pictures."""
    rng = random.Random(seed + 1)
    for n in range(COPIES + NEW):
        number, upload = rng.choice(first)
        if n % 5 == 4:
            image, tenant = drawn(seed * 1_000_003 + FIRST + n), f"tenant-{rng.randrange(6)}"
            yield SentUpload(f"new-{n}", jpeg(image, 85), tenant, rng.randrange(6))
        elif n % 5 == 3:
            yield SentUpload(f"copy-{n}", upload.value, upload.tenant, rng.randrange(6))
        else:
            image = EDITS[rng.choice(COPY_EDITS)](drawn(number), random.Random(n))
            yield SentUpload(f"copy-{n}", jpeg(image), upload.tenant, rng.randrange(6))


def metric(this: Round, stage: str, name: str) -> float:
    """The sum over the running workers of a stage."""
    return sum(v for w in this.of(stage) for k, v in this.workers[w].metrics().items() if k.startswith(name))


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


@contextmanager
def loaded(cluster: Cluster, folder: Path, name: str) -> Iterator[Round]:
    """A round whose first pictures only the index knows, and whose copies are being judged."""
    seed = seed_of_this_run()
    with Round(cluster, folder, name, seed, SHAPE) as this:
        this.start()
        first = pictures(seed)
        this.sent += this.deployment.send(upload for _, upload in first)
        this.wait_answered(FIRST / SHAPE.uploads)
        until(
            lambda: not metric(this, "decide", "dejaview_window_rows"), 30, lambda: f"windows hold rows {this.tails()}"
        )
        this.note("only the index knows", answered=this.answers.count)
        this.send(spread_s=40.0, made=copies(seed, first))
        this.wait_answered((FIRST + 20) / SHAPE.uploads)
        yield this


# -- faults that keep Milvus from answering


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
    """Connections stay open, nobody answers. Beyond its session's life Milvus ends itself when it goes on."""
    milvus = this.cluster.milvus
    milvus.suspend()
    try:
        outage.felt()
        outage.held(hold_s)
    finally:
        milvus.resume()
    deadline = time.monotonic() + 2 * MILVUS_SESSION_TTL_S
    while milvus.running and time.monotonic() < deadline:
        time.sleep(0.2)
    this.note("milvus went on", ended_itself=not milvus.running)
    milvus.start()


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


# -- faults that lose what Milvus held


def disk_lost(this: Round) -> None:
    this.cluster.empty_milvus()


def dropped(this: Round) -> None:
    index = index_of(this.deployment)
    index._connected().drop_collection(index.collection)
    index.close()


def all_deleted(this: Round) -> None:
    """Rows and links, by a filter that matches everything."""
    index = index_of(this.deployment)
    index._connected().delete(index.collection, filter='row_id != ""')
    index.close()


def links_deleted(this: Round) -> None:
    index = index_of(this.deployment)
    index._connected().delete(index.collection, filter=f"tenant == {LINKS}")
    index.close()


def unloaded(this: Round) -> None:
    index = index_of(this.deployment)
    index._connected().release_collection(index.collection)
    index.close()


LOST: dict[str, Callable[[Round], None]] = {
    "disk-lost": disk_lost,
    "dropped": dropped,
    "all-deleted": all_deleted,
    "links-deleted": links_deleted,
    "unloaded": unloaded,
}
# What the deciders must have counted: an index that fell back, or one that did not answer.
FELT = ('dejaview_aborted_batches_total{cause="IndexFellBack"}', "dejaview_index_errors_total")


@pytest.mark.parametrize("index_away", [True, False], ids=["without-index-stage", "with-index-stage"])
@pytest.mark.parametrize("fault", LOST)
def test_an_index_that_lost_something(cluster: Cluster, tmp_path: Path, fault: str, index_away: bool) -> None:
    """R4: disk lost, collection dropped by hand, everything deleted by a filter, the links deleted, the collection
    unloaded: DECIDE notices by itself, judges from the ledger, and all verdicts are the offline judge's. With the index
    stage suspended nothing fills the index again for 10 s: what DECIDE says meanwhile it must know from the ledger.

    Break: `ignore-fall-back`.
    """
    with loaded(cluster, tmp_path, f"lost-{fault}-{index_away}") as this:
        indexer = this.workers[this.of("index")[0]]
        if index_away:
            indexer.suspend()
        this.hit(*this.of("encode"))
        before = {name: metric(this, "decide", name) for name in FELT}
        LOST[fault](this)
        this.note("lost", fault=fault, answered=this.answers.count)
        until(
            lambda: any(metric(this, "decide", name) > before[name] for name in FELT),
            FELT_WITHIN_S,
            lambda: f"no hit: DECIDE noticed nothing; {this.tails()}",
        )
        this.note("noticed", **{name: metric(this, "decide", name) - before[name] for name in FELT})
        if index_away:
            # It goes on from the window: progress without an index stage.
            seen = this.answers.count
            until(lambda: this.answers.count > seen, 60, lambda: f"no progress; {this.tails()}")
            indexer.resume()
            this.note("index stage goes on", answered=this.answers.count)
        # First: rows that are missing explain a wrong verdict.
        until(lambda: this.answers.count >= SHAPE.uploads, HEALED_WITHIN_S, this.tails)
        assert_index_is_the_ledgers(this.deployment, this.tails)
        report = this.finish(HEALED_WITHIN_S)
        assert report["uploads"] == SHAPE.uploads
        assert report["kinds"]["duplicate"] > COPIES / 2
