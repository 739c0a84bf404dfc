"""A crash at every numbered step of the commit and of the index stage changes no verdict and loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import Round, seed_of_this_run
from tests.support.deployment import until
from tests.support.fingerprints import THRESHOLDS, Log
from tests.support.sabotage import STEPS, crash_at

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

TENANTS = tuple(f"tenant-{n}" for n in range(6))
SHAPE = Shape(tenants=len(TENANTS), partitions=4)
ENDED_WITHIN_S = 60.0
# Small batches, so that a crash at the third of them leaves most of the work undone; a short session, so that a
# dead worker's partitions are given out soon.
VALUES = {
    "tenants": {"thresholds": dict.fromkeys(TENANTS, THRESHOLDS)},
    "decide": {"batch_items_max": 20, "batch_wait_s": 0.001},
    "ledger_index": {"batch_items_max": 20, "batch_wait_s": 0.001},
    "kafka": {"session_timeout_s": 2.0, "consumer_options": {"heartbeat.interval.ms": "500"}},
}
# Which passing of a step is the deadly one: the first opening, the third batch.
NTH = {"index.open": 1, "index.prove": 1}
# The steps with a number of their own are in the short round, what lies between them in the long one.
NUMBERED = {step for step in STEPS if step[-1].isdigit()}


@pytest.mark.parametrize(
    "step", [step if step in NUMBERED else pytest.param(step, marks=pytest.mark.long) for step in STEPS]
)
def test_a_crash_at_a_step_changes_nothing(cluster: Cluster, tmp_path: Path, step: str) -> None:
    """R2: killed at this step and started again, a worker ends with the offline judge's verdicts, each once.

    Breaks: `offsets-outside-the-transaction`, `forgetful-restore` (commit); a link written before its rows (index).
    """
    stage = "decide" if step.startswith("commit") else "index"
    mark = tmp_path / "mark"
    with Round(cluster, tmp_path, f"step-{step}", seed_of_this_run(), SHAPE, **VALUES) as this:
        log = Log(this.deployment, this.seed)
        this.sent = log.append(120, TENANTS)
        this.launch(f"{stage}-0", sabotage=crash_at(step, NTH.get(step, 3), mark))
        if stage == "index":
            this.launch("decide-0")
        victim = this.workers[f"{stage}-0"].process
        until(lambda: victim.poll() is not None, ENDED_WITHIN_S, this.tails)
        assert mark.read_text() == step, this.tails()
        # The mark is the hit: the process died at that step with a batch in hand.
        assert stage == "index" or this.answers.count < this.sent, "no hit: everything was answered before the crash"
        this.note("crashed", step=step, answered=this.answers.count)
        this.launch(f"{stage}-0")
        this.wait_all(ENDED_WITHIN_S)
        if stage == "decide":
            # Not before: what the dead decider's window held is in the ledger alone.
            this.launch("index-0")
        # Now from the index alone: it must hold every representative, and nothing of what never was.
        until(this.all_indexed, ENDED_WITHIN_S, this.tails)
        this.sent += log.copies_of_all(0.25)
        this.finish(ENDED_WITHIN_S, thresholds=THRESHOLDS)
