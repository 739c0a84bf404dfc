"""R3: however many copies come at the same moment, and whoever dies meanwhile, one of them is the representative."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.events import VerdictKind
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run
from tests.support.deployment import SentUpload, until
from tests.support.fingerprints import THRESHOLDS, Log
from tests.support.photos import edited
from tests.support.sabotage import STEPS, crash_at

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

ENDED_WITHIN_S = 120.0
JUDGED = 'dejaview_events_total{stage="decide"}'


def test_a_thousand_copies_at_the_same_moment(cluster: Cluster, tmp_path: Path) -> None:
    """R3: 1,000 edited copies of one picture over 12 upload partitions, 3 encoders and 2 deciders, the tenant's
    partition moving from one decider to the other in the middle: one unique, 999 duplicates.

    Breaks: `no-window`, `trust-the-index`.
    """
    shape = Shape(uploads=1_000, partitions=12, encoders=3, deciders=2)
    edits = ("jpeg_50", "brightness", "contrast", "grey")
    copies = [edited("astronaut.png", edit, seed) for edit in edits for seed in range(10)]
    made = [SentUpload(f"copy-{n}", copies[n % len(copies)], "one", n % 12) for n in range(shape.uploads)]
    settings = {
        "decide": {"batch_items_max": 32},
        "tenants": {"thresholds": {"one": {"duplicate": 0.27, "review": 0.2}}},
    }
    with Round(cluster, tmp_path, "thousand", seed_of_this_run(), shape, **settings) as this:
        this.start()
        this.sent = this.deployment.send(made)
        this.wait_answered(0.05)
        owner = max(this.of("decide"), key=lambda name: this.workers[name].metrics().get(JUDGED, 0))
        (other,) = {*this.of("decide")} - {owner}
        assert this.workers[other].metrics().get(JUDGED, 0) == 0, "one tenant has one judge"
        this.hit(owner)
        assert this.workers[owner].terminate() == 0
        moved_at = this.answers.count
        this.note("owner gone", owner=owner, answered=moved_at)
        assert moved_at < shape.uploads, "the partition did not move in the middle: everything was answered"
        this.finish(ENDED_WITHIN_S, thresholds={"duplicate": 0.27, "review": 0.2})
        assert this.workers[other].metrics().get(JUDGED, 0) > 0, "the partition did not move"
        assert Counter(v.verdict for v in this.deployment.verdicts()) == {
            VerdictKind.UNIQUE: 1,
            VerdictKind.DUPLICATE: shape.uploads - 1,
        }


TENANTS = tuple(f"tenant-{n}" for n in range(20))
GROUPS, COPIES = 200, 10
SHAPE = Shape(uploads=GROUPS * COPIES, tenants=len(TENANTS), partitions=12, deciders=2)
VALUES = {
    "tenants": {"thresholds": dict.fromkeys(TENANTS, THRESHOLDS)},
    "decide": {"batch_items_max": 48},
    "kafka": {"session_timeout_s": 3.0, "consumer_options": {"heartbeat.interval.ms": "500"}},
}
Meanwhile = Callable[[Round, Path], None]


def nothing(this: Round, _folder: Path) -> None:
    this.start("decide", "index")


def decider_dies(step: str) -> Meanwhile:
    """Of two deciders one kills itself at a step, three times over."""

    def meanwhile(this: Round, folder: Path) -> None:
        this.launch("index-0")
        this.launch("decide-1")
        for n in range(3):
            mark = folder / f"mark-{n}"
            worker = this.launch("decide-0", sabotage=crash_at(step, 2, mark))
            until(lambda w=worker: w.process.poll() is not None, ENDED_WITHIN_S, this.tails)  # type: ignore[misc]
            assert mark.read_text() == step
            this.note("died", step=step, answered=this.answers.count)
            if n == 0:
                assert this.answers.count < this.sent, "no hit: all were answered"
        this.launch("decide-0")

    return meanwhile


def index_stops(hold_s: float) -> Meanwhile:
    """INDEX is stopped with work in hand, and killed after a while; a new one takes over."""

    def meanwhile(this: Round, _folder: Path) -> None:
        this.launch("index-0")
        this.start("decide")
        this.hit("index-0")
        this.workers["index-0"].suspend()
        this.note("index stopped", answered=this.answers.count)
        time.sleep(hold_s)
        this.workers["index-0"].kill()
        this.note("index killed", answered=this.answers.count)
        this.launch("index-0")

    return meanwhile


CASES = [
    pytest.param(nothing, id="calm", marks=pytest.mark.long),
    pytest.param(index_stops(8.0), id="index-stops-8s"),
    pytest.param(index_stops(30.0), id="index-stops-30s", marks=pytest.mark.long),
    *(
        pytest.param(decider_dies(step), id=f"decider-dies-at-{step}", marks=pytest.mark.long)
        for step in STEPS
        if step.startswith("commit")
    ),
]


@pytest.mark.parametrize("meanwhile", CASES)
def test_groups_interleaved_over_tenants(cluster: Cluster, tmp_path: Path, meanwhile: Meanwhile) -> None:
    """R3: 200 groups of 10 copies, interleaved over 20 tenants: one representative a group, whatever dies meanwhile.

    Breaks: `no-window`, `forgetful-restore`.
    """
    with Round(cluster, tmp_path, f"groups-{tmp_path.name}", seed_of_this_run(), SHAPE, **VALUES) as this:
        log = Log(this.deployment, this.seed)
        made = [one for n in range(GROUPS) for one in log.swarm(TENANTS[n % len(TENANTS)], COPIES, f"group{n}")]
        random.Random(this.seed).shuffle(made)
        this.sent = log.produce(made)
        meanwhile(this, tmp_path)
        report = this.finish(ENDED_WITHIN_S, thresholds=THRESHOLDS)
        assert report["kinds"] == {"unique": GROUPS, "duplicate": GROUPS * (COPIES - 1)}
        first = [v.upload_id.partition("-")[0] for v in this.deployment.verdicts() if v.verdict is VerdictKind.UNIQUE]
        assert len(set(first)) == GROUPS
