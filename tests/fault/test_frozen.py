"""R2 to R4 where a commit or a link comes late, or its answer not at all: one answer each, and a chain that is true."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.broken_logs import (
    HEALED_WITHIN_S,
    begin,
)
from tests.fault.cluster import SESSION_TIMEOUT_S, Cluster
from tests.fault.load import Shape
from tests.fault.round import Round
from tests.support.deployment import until
from tests.support.indexed import assert_index_is_the_ledgers, index_of
from tests.support.sabotage import crash_at, lose_answer

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

LONGER_THAN_A_TRANSACTION_S = 14.0
LONGER_THAN_A_SESSION_S = SESSION_TIMEOUT_S + 2.0


@pytest.mark.parametrize(
    ("step", "hold_s"),
    [
        pytest.param("commit.4", LONGER_THAN_A_SESSION_S, marks=pytest.mark.long),
        pytest.param("commit.2", LONGER_THAN_A_SESSION_S, marks=pytest.mark.long),
        *(
            pytest.param(step, hold_s, marks=pytest.mark.long)
            for step in ("commit.3", "commit.5")
            for hold_s in (LONGER_THAN_A_SESSION_S, LONGER_THAN_A_TRANSACTION_S)
        ),
    ],
)
def test_a_partition_that_moves_with_a_batch_in_hand(
    cluster: Cluster, tmp_path: Path, step: str, hold_s: float
) -> None:
    """R2, R3: a decider freezes inside a commit, another takes its partitions, the first wakes up and goes on with its
    commit. One answer each, as the offline judge says.

    Break: `offsets-outside-the-transaction`.
    """
    mark = tmp_path / "mark"
    with begin(cluster, tmp_path, f"frozen-{step}-{hold_s:.0f}", Shape(uploads=600, tenants=8, partitions=4)) as this:
        this.start("encode", "index")
        this.launch("decide-0", sabotage=crash_at(step, 3, mark, "STOP"))
        this.launch("decide-1")
        this.wait_ready(["decide-0", "decide-1"])
        taken = this.workers["decide-1"].log.read_text().count("assigned fingerprints")
        this.load.send(spread_s=15.0)
        until(mark.exists, 60, this.tails)
        assert this.sent > this.answers.count, "no hit"
        this.note("frozen", step=step, answered=this.answers.count, sent=this.sent)
        until(lambda: this.workers["decide-1"].log.read_text().count("assigned fingerprints") > taken, 30, this.tails)
        this.note("taken over", answered=this.answers.count)
        time.sleep(max(0.0, hold_s - SESSION_TIMEOUT_S))
        this.workers["decide-0"].resume()
        this.note("continued", answered=this.answers.count)
        this.finish(HEALED_WITHIN_S)
        assert this.workers["decide-0"].process.poll() is None
        thrown_away = "batch thrown away" in this.workers["decide-0"].log.read_text()
        this.note("the zombie's batch", thrown_away=thrown_away)
        # With its offsets sent and its transaction alive the zombie may commit: the new owner waits for that.
        assert thrown_away or (step == "commit.5" and hold_s == LONGER_THAN_A_SESSION_S)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["lost", "never"])
def test_a_commit_without_an_answer(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """R2: a commit happened and its answer was lost, or it was never sent: one answer each, the offline judge's.

    Break: `forgetful-restore` (lost); treat `BrokerUnavailable` of a commit as committed (never).
    """
    mark = tmp_path / "mark"
    with begin(cluster, tmp_path, f"answer-{kind}", Shape(uploads=400, tenants=8, partitions=4, deciders=1)) as this:
        this.start("encode", "index")
        this.launch("decide-0", sabotage=lose_answer(kind, 3, mark))
        this.wait_ready(["decide-0"])
        this.load.send(spread_s=5.0)
        until(mark.exists, 60, this.tails)
        this.finish(HEALED_WITHIN_S)
        log = this.workers["decide-0"].log.read_text()
        assert "batch thrown away: committing a transaction" in log
        assert this.workers["decide-0"].metrics()['dejaview_aborted_batches_total{cause="OutcomeUnknown"}'] >= 1


# -- an index stage that wakes late


def nothing(_this: Round) -> None:
    """The index stays what it was."""


def drop(this: Round) -> None:
    """The index is emptied while the indexer sleeps."""
    index = index_of(this.deployment)
    index.prepare()
    index._connected().drop_collection(index.collection)
    index.close()


@pytest.mark.parametrize(
    ("step", "meanwhile"),
    [
        pytest.param("index.2", nothing, marks=pytest.mark.long),
        pytest.param("index.3", nothing, marks=pytest.mark.long),
        pytest.param("index.2", drop, marks=pytest.mark.long),
        pytest.param("index.3", drop, marks=pytest.mark.long),
    ],
)
def test_an_index_stage_that_wakes_late(
    cluster: Cluster, tmp_path: Path, step: str, meanwhile: Callable[[Round], None]
) -> None:
    """R3, R4: an indexer freezes with its rows in the index and their link not yet (2), or with the link just appended
    (3); another goes on (in an emptied index, too); the first wakes and writes. The chain never says more than the
    rows, verdicts are the offline judge's, and the index ends up as the ledger says.

    Break: link before insert in `IndexStage._write`.
    """
    mark = tmp_path / "mark"
    shape = Shape(uploads=500, tenants=8, partitions=4)
    with begin(cluster, tmp_path, f"late-{step}-{meanwhile.__name__}", shape) as this:
        this.start("encode", "decide")
        this.launch("index-0", sabotage=crash_at(step, 3, mark, "STOP"))
        this.load.send(spread_s=25.0)
        until(mark.exists, 60, this.tails)
        this.note("frozen", step=step, answered=this.answers.count, sent=this.sent)
        # Its step is in hand, by the mark; and there is more to come for the other.
        assert this.answers.count < shape.uploads, "no hit"
        meanwhile(this)
        this.launch("index-1")
        this.wait_ready(["index-1"])
        indexed = "dejaview_indexed_rows_total"
        until(lambda: this.workers["index-1"].metrics().get(indexed, 0) > 0, 60, this.tails)
        this.note("taken over", answered=this.answers.count)
        this.workers["index-0"].resume()
        this.finish(HEALED_WITHIN_S)
        assert_index_is_the_ledgers(this.deployment, this.tails)
        assert {this.workers[name].process.poll() for name in ("index-0", "index-1")} == {None}
