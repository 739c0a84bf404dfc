"""R11 on real servers: one picture under many names is one `unique` each; a name that is none is a dead letter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.kafka import KafkaServer
from schemas.events import Reason, fingerprint_record
from stream.kafka import Outgoing
from stream.tenants import partition_of
from tests.fuzz.names import HOSTILE, VALID
from tests.support.deployment import Deployment, until
from tests.support.photos import jpeg, photo
from tests.support.poison import headers

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 4


@pytest.fixture
def deployment(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment.create(tmp_path, kafka.bootstrap, milvus_uri, PARTITIONS)
    yield made
    made.close()


def uploads(deployment: Deployment, name: str) -> list[Outgoing]:
    """The same picture and upload id once for every name, allowed or not, and once without any."""
    topic, value = deployment.settings.topics.uploads, jpeg(photo("rocket.jpg"))
    made = [headers(name, raw) for raw in [*(tenant.encode() for tenant in VALID), *HOSTILE]]
    made.append(headers(name, b"", ce_tenant=None))
    return [Outgoing(topic, value, its, n % PARTITIONS) for n, its in enumerate(made)]


def test_one_picture_under_many_names(deployment: Deployment) -> None:
    """R11: each allowed name has its own `unique`, and its own `duplicate` of it once the rows are in the index; each
    other one has a dead letter `bad_tenant`, and nothing else; each fingerprint lies where the raw name's bytes say.

    Breaks, each tried: strip names in `parse_tenant`; search without the filter, or row ids without the tenant (the
    judge refuses another tenant's candidate: its stage ends, and half the uploads have no answer).
    """
    worker = deployment.start("a")
    worker.wait_ready()
    first, second = uploads(deployment, "first"), uploads(deployment, "second")
    deployment.send_raw(first)
    deployment.wait_judged(len(first), 90)
    assert Counter(str(v.verdict) for v in deployment.verdicts()) == {"unique": len(VALID)}
    # Past the window: the rows are in the index, and the window has let go of them.
    until(lambda: "\ndejaview_window_rows 0.0" in worker.get("/metrics")[1], 60)
    deployment.send_raw(second)
    deployment.wait_judged(len(first) + len(second), 90)
    verdicts, letters = deployment.verdicts(), deployment.dead_letters()
    kinds = {(v.tenant, v.upload_id): str(v.verdict) for v in verdicts}
    assert kinds == {(t, i): k for t in VALID for i, k in (("first", "unique"), ("second", "duplicate"))}
    assert len(verdicts) == 2 * len(VALID)
    assert {v.match.upload_id for v in verdicts if v.match is not None} == {"first"}
    assert Counter(letter.reason for letter in letters) == {Reason.BAD_TENANT: 2 * (len(HOSTILE) + 1)}
    assert {letter.tenant for letter in letters} == {None}
    lie_with_their_names(deployment, [*first, *second])


def lie_with_their_names(deployment: Deployment, sent: list[Outgoing]) -> None:
    """Every record of the fingerprints topic is in the partition of its raw name."""
    raw = {(upload.partition, upload.offset): dict(upload.headers).get("ce_tenant", b"") for upload in sent}
    records = deployment.read(deployment.settings.topics.fingerprints)
    assert len(records) == len(sent)
    for record in records:
        source = fingerprint_record.validate_json(record.value or b"").source
        assert record.partition == partition_of(raw[source.partition, source.offset], PARTITIONS)
