"""R4: an index that lost what it held shows it by itself, and no verdict relies on what is gone.

The load is that of `test_index_faults.py`: copies of pictures whose rows lie in the index alone.

Found by these tests: INDEX, begun again at 0, linked past the end that it had reached before (`GroupConsumer.seek`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.cluster import Cluster
from tests.fault.copies import COPIES, FELT_WITHIN_S, HEALED_WITHIN_S, SHAPE, copies, loaded, metric, pictures
from tests.fault.round import Round
from tests.support.deployment import until
from tests.support.indexed import assert_index_is_the_ledgers, index_of

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

LINKS = '"_links"'


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


@pytest.mark.parametrize(
    ("fault", "index_away"),
    [
        pytest.param(fault, away, id=f"{fault}-{'without' if away else 'with'}-index-stage", marks=marks)
        for fault in LOST
        for away in (True, False)
        for marks in ([] if (fault, away) == ("dropped", True) else [pytest.mark.long],)
    ],
)
def test_an_index_that_lost_something(cluster: Cluster, tmp_path: Path, fault: str, index_away: bool) -> None:
    """R4: disk lost, collection dropped by hand, everything deleted by a filter, the links deleted, the collection
    unloaded: DECIDE notices by itself, judges from the ledger, and all verdicts are the offline judge's. With the index
    stage suspended nothing fills the index again for 10 s: what DECIDE says meanwhile it must know from the ledger.

    Break: `ignore-fall-back`; `keep-the-reached-end` (not in every run).
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


@pytest.mark.long
def test_an_older_copy_comes_back_while_the_index_stage_runs(cluster: Cluster, tmp_path: Path) -> None:
    """R4: Milvus comes back with the data of a hundred verdicts ago: what it lost since is judged from the ledger.

    Break: `ignore-fall-back`.
    """
    with loaded(cluster, tmp_path, "older-copy") as this:
        this.cluster.copy_milvus()
        copied = this.answers.count
        until(lambda: this.answers.count >= copied + 100, 60, this.tails)
        this.hit(*this.of("encode"))
        with this.felt(*FELT):
            this.cluster.restore_milvus()
            this.note("restored", copied_at=copied, answered=this.answers.count)
            # Both deciders and the indexer have asked the older copy by then.
            seen = this.answers.count
            until(lambda: this.answers.count > seen, 60, this.tails)
        this.finish(HEALED_WITHIN_S)
        assert_index_is_the_ledgers(this.deployment, this.tails)


@pytest.mark.long
@pytest.mark.parametrize("rows", [f"tenant != {LINKS}", f"tenant != {LINKS} and ledger_offset % 2 == 0"])
def test_rows_deleted_by_hand_come_back_with_a_dropped_collection(cluster: Cluster, tmp_path: Path, rows: str) -> None:
    """Not promised: rows that somebody deletes while their links stay are not missed by anybody. The way back: drop the
    collection. INDEX builds it again from the ledger, and what is judged from then on is right.

    Break: `ignore-fall-back`.
    """
    with loaded(cluster, tmp_path, f"by-hand-{len(rows)}", load=False) as this:
        index = index_of(this.deployment)
        index._connected().delete(index.collection, filter=rows)
        with pytest.raises(AssertionError, match="are not in the index"):
            assert_index_is_the_ledgers(this.deployment, this.tails)
        assert metric(this, "decide", FELT[0]) == 0
        index._connected().drop_collection(index.collection)
        index.close()
        until(lambda: metric(this, "decide", FELT[0]) > 0, FELT_WITHIN_S, this.tails)
        this.load.send(made=copies(this.seed, pictures(this.seed)))
        report = this.finish(HEALED_WITHIN_S)
        assert report["kinds"]["duplicate"] > COPIES / 2
        assert_index_is_the_ledgers(this.deployment, this.tails)
