"""`doctor` on a real Milvus: an index of another ledger or kind, one that is behind, and canaries that leave no trace.

Breaks that these tests catch, each tried: the canary without its `_drop`; `drop_left_over` without the question of age;
the deployment's own collection prepared by the probe; `check_links` left out; a canary that does not look at what it
found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from models.model import load_model
from ops.doctor.chain import PROGRESS
from ops.doctor.clock import INDEX_CLOCK
from ops.doctor.index import CANARY, COLLECTION
from ops.doctor.report import State
from ops.local.kafka import KafkaServer
from stream.config import Settings
from stream.kafka import Admin, LogProducer, Outgoing
from stream.neighbours.milvus import MilvusIndex, collection
from stream.neighbours.milvus.probe import CANARY_MODEL, MilvusProbe
from stream.neighbours.protocol import Link
from tests.support.deployment import Deployment
from tests.support.doctor import broken, collections_of, created, looked

pytestmark = pytest.mark.timeout(240)

Create = Callable[..., Deployment]
OLD = 1 << 20


@pytest.fixture
def create(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Create:
    """Makes deployments of two partitions, as `topics create` does; nothing runs."""
    return lambda **values: created(tmp_path, kafka.bootstrap, milvus_uri, **values)


@pytest.mark.parametrize(
    ("start", "end", "change", "said"),
    [
        (0, 5, {}, "up to offset 5, the ledger has 0 to 2"),
        (0, 1, {"ledger_topic_id": "of-before"}, "ledger topic id of-before"),
        (0, 1, {"partitions": 3}, "built with 3 ledger partitions, the topic has 2"),
    ],
    ids=["gap", "another topic", "another count"],
)
def test_an_index_of_another_ledger(create: Create, start: int, end: int, change: dict[str, Any], said: str) -> None:
    """A chain beyond the ledger's end, of another topic or another partition count is broken before a stage says so."""
    deployment = create()
    settings = deployment.settings
    fill_ledger(settings, 2)
    ledger = Admin(settings).topics([settings.topics.ledger])[settings.topics.ledger]
    made: dict[str, Any] = {"ledger_topic_id": ledger.topic_id, "ledger_partition": 0, "partitions": 2} | change
    index = MilvusIndex(settings.index, load_model().model_id)
    index.prepare()
    index.append_links([Link(**made, start=start, end=end, timestamp=OLD)])
    index.close()
    finding = broken(looked(settings, PROGRESS), PROGRESS)
    assert said in finding.found
    assert "index.collection" in finding.fix


def test_an_index_that_is_behind_is_warned_of(create: Create) -> None:
    """Ledger records that are not in the index are counted; before the first start the collection's absence is said."""
    settings = create().settings
    fill_ledger(settings, 150)
    found = looked(settings, PROGRESS)
    assert found[COLLECTION][0].state is State.WARNING
    assert found[PROGRESS][0].state is State.WARNING
    assert found[PROGRESS][0].found.startswith("150 ledger records of 1 partitions")
    assert collections_of(settings) == []


def fill_ledger(settings: Settings, count: int) -> None:
    producer = LogProducer(settings)
    producer.produce([Outgoing(settings.topics.ledger, b"{}", partition=0) for _ in range(count)])
    producer.flush()


@pytest.mark.parametrize("what", ["metric", "index type", "dimension", "model"])
def test_a_collection_of_another_kind(create: Create, what: str) -> None:
    """The collection that is there differs in one thing: it is named, with the setting or the way round."""
    settings = create().settings
    model_id = load_model().model_id
    name = collection.collection_name(settings.index, model_id)
    client = MilvusClient(settings.index.uri, timeout=10)
    written_for = "another" if what == "model" else model_id
    collection.create(client, name, settings.index, written_for, 128 if what == "dimension" else 256, timeout_s=10)
    params = MilvusClient.prepare_index_params(
        "embedding",
        index_type="IVF_FLAT" if what == "index type" else "FLAT",
        metric_type="L2" if what == "metric" else "COSINE",
        params={"nlist": 16} if what == "index type" else {},
        index_name="embedding",
    )
    client.create_index(name, params, timeout=10)
    client.close()
    finding = broken(looked(settings, COLLECTION), COLLECTION)
    said = {"metric": "L2", "index type": "IVF_FLAT", "dimension": "128", "model": "model=another"}[what]
    assert said in finding.found
    assert name in finding.found
    assert "index.collection" in finding.fix


def test_a_killed_doctors_canary_is_dropped(create: Create) -> None:
    """What a doctor left ten minutes ago goes; another doctor's canary of now, and other collections, stay."""
    settings = create().settings
    now_s = int(time.time())
    names = {
        "old": f"{settings.index.collection}_doctor_{now_s - 700:08x}beef_{CANARY_MODEL}",
        "of now": f"{settings.index.collection}_doctor_{now_s:08x}beef_{CANARY_MODEL}",
        "a deployment's": f"{settings.index.collection}_doctor_copydetect",
    }
    client = MilvusClient(settings.index.uri, timeout=10)
    for name in names.values():
        collection.create(client, name, settings.index, CANARY_MODEL, 256, timeout_s=10)
    found = looked(settings, CANARY)
    assert found[CANARY][0].state is State.OK
    assert "dropped 1 left" in found[CANARY][0].found
    assert sorted(collections_of(settings)) == sorted([names["of now"], names["a deployment's"]])
    for name in (names["of now"], names["a deployment's"]):
        client.drop_collection(name, timeout=10)
    client.close()


def test_an_index_that_does_not_find_what_it_took(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was acknowledged and is not found breaks the canary, whose collection is dropped all the same."""
    settings = create().settings
    monkeypatch.setattr(MilvusProbe, "search", lambda *_: [[]])
    assert "not found" in broken(looked(settings, CANARY), CANARY).found
    assert collections_of(settings) == []


def test_milvus_lite_is_checked_too(create: Create, tmp_path: Path) -> None:
    """An index in a file: the canary goes through it and leaves no collection; it has no clock of its own."""
    settings = create(index={"uri": str(tmp_path / "index.db")}).settings
    found = looked(settings, CANARY, INDEX_CLOCK, PROGRESS)
    assert found[CANARY][0].state is State.OK
    assert found[INDEX_CLOCK][0].state is State.NOT_CHECKED
    assert found[PROGRESS][0].state is State.OK
