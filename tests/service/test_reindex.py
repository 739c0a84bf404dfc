"""`dejaview reindex` on real Kafka and Milvus: built beside the one in use, compared, and switched under load.

The breaks were tried where they run in a second: tests/unit/test_reindex.py and test_index_switched.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from models.calibration import Calibration
from models.model import load_model
from ops.cli.main import main
from ops.local.kafka import KafkaServer
from stream.decision import Rule
from stream.neighbours.milvus.copies import MilvusCopies, settings_of
from tests.support.deployment import Deployment, until
from tests.support.fingerprints import THRESHOLDS, Log
from tests.support.indexed import assert_index_is_the_ledgers
from tests.support.judged import assert_equal_to_offline

pytestmark = pytest.mark.timeout(400)

TENANTS = ("acme", "globex", "initech")


@pytest.fixture
def deployment(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path,
        kafka.bootstrap,
        milvus_uri,
        decide={"batch_items_max": 16},
        # Several steps: a chain of one is gone again whenever INDEX starts.
        ledger_index={"batch_items_max": 16},
        index={"index_type": "HNSW"},
        tenants={"thresholds": dict.fromkeys(TENANTS, THRESHOLDS)},
    )
    yield made
    made.close()


@pytest.fixture
def copies(deployment: Deployment) -> Iterator[MilvusCopies]:
    made = MilvusCopies(deployment.settings.index, load_model().model_id)
    yield made
    made.close()


def rule_of(_tenant: str) -> Rule:
    return Rule(THRESHOLDS["duplicate"], THRESHOLDS["review"], 10, Calibration.load())


def reindex(deployment: Deployment, *arguments: str) -> int:
    config = deployment.folder / "reindex.yaml"
    config.write_text(yaml.safe_dump(deployment.values))
    return main(["reindex", "--config", str(config), *arguments])


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


class Sender:
    """Fingerprints all the time, from a thread of its own, until it is stopped."""

    def __init__(self, log: Log) -> None:
        self.sent = 0
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.sent += self._log.append(10, TENANTS)
            self._stop.wait(0.5)


def test_the_index_is_rebuilt_after_its_data_was_deleted_and_switched_under_load(
    deployment: Deployment, copies: MilvusCopies, capsys: pytest.CaptureFixture[str]
) -> None:
    """R1 to R4: the collection is dropped behind the workers' backs while uploads come all the time; a copy is built,
    compared and switched to. Every upload has one verdict, the offline judge's, and the copy is the ledger's.
    """
    workers = [deployment.start("a", "decide", "index"), deployment.start("b", "decide")]
    for worker in workers:
        worker.wait_ready()
    log = Log(deployment, seed=11)
    sent = log.append(400, TENANTS)
    deployment.wait_judged(sent)
    copies._connected().drop_collection(copies.collection, timeout=30)
    with Sender(log) as sender:
        assert reindex(deployment, "--json") == 0
        at_the_switch = deployment.judged()
        until(lambda: deployment.judged() >= at_the_switch + 50, 120)
    sent += sender.sent
    result = found(capsys)
    assert result["switched"]
    assert result["new"]["missing"] == 0
    assert result["new"]["rows"] > 100
    assert result["new"]["same"] == result["new"]["questions"]
    # Copies of everything: what was lost would be judged unique now.
    sent += log.copies_of_all()
    deployment.wait_judged(sent)
    kinds = assert_equal_to_offline(deployment, sent, rule_of)
    assert kinds["duplicate"] > kinds["unique"] > 0
    assert copies.in_use() == 1
    copy = settings_of(deployment.settings.index, 1)
    assert_index_is_the_ledgers(deployment, lambda: "the copy does not reach the ledger's end", copy)
    # Nobody needs the old one: it goes, and nobody notices.
    assert reindex(deployment, "--drop", "0") == 0
    sent += log.append(40, TENANTS)
    deployment.wait_judged(sent)
    assert_equal_to_offline(deployment, sent, rule_of)
    assert set(copies.copies()) == {1}
    assert all(worker.terminate() == 0 for worker in workers)


def test_a_small_ledger_is_built_to_its_end(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer records than a partition may have markers at its end, by an INDEX that takes a few at a time.

    Break: call it built when no partition lies more than 100 offsets behind.
    """
    deployment.start("a", "decide", "index").wait_ready()
    deployment.wait_judged(Log(deployment, seed=13).append(120, TENANTS))
    deployment.values["ledger_index"] |= {"batch_items_max": 8}
    assert reindex(deployment, "--json") == 0
    result = found(capsys)
    kept = [v for v in deployment.verdicts() if str(v.verdict) != "duplicate" and not v.repeat]
    assert result["new"]["rows"] == len(kept) > 0
    assert result["switched"]


def test_a_copy_that_lacks_rows_is_not_switched_to(
    deployment: Deployment, copies: MilvusCopies, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody deletes rows by hand while the links stay: the copy looks whole and is refused. Built anew it is taken,
    and `--use` goes back, where INDEX goes on.
    """
    deployment.start("a", "decide", "index").wait_ready()
    log = Log(deployment, seed=12)
    sent = log.append(200, TENANTS)
    deployment.wait_judged(sent)
    assert reindex(deployment, "--no-switch", "--json") == 0
    assert found(capsys)["switched"] is False
    assert copies.in_use() == 0
    client = copies._connected()
    lost = client.query(copies.copies()[1], filter='tenant == "acme"', output_fields=["row_id"], limit=5)
    client.delete(copies.copies()[1], ids=[row["row_id"] for row in lost], timeout=30)
    assert reindex(deployment, "--json") == 1
    result = found(capsys)
    assert result["new"]["missing"] == len(lost) > 0
    assert "missing" in result["refused"]
    assert result["in_use"]["missing"] == 0
    assert copies.in_use() == 0
    assert reindex(deployment, "--drop", "1") == 0
    assert reindex(deployment) == 0
    assert copies.in_use() == 1
    assert reindex(deployment, "--drop", "1") == 1, "the one in use must not be dropped"
    sent += log.append(40, TENANTS)
    deployment.wait_judged(sent)
    assert reindex(deployment, "--use", "0") == 0
    assert copies.in_use() == 0
    sent += log.copies_of_all()
    deployment.wait_judged(sent)
    assert_equal_to_offline(deployment, sent, rule_of)
    assert_index_is_the_ledgers(deployment, lambda: "the first one does not reach the ledger's end")
