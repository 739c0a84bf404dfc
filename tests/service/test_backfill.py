"""`dejaview backfill` on real Kafka and Milvus: a library is judged and indexed as uploads are, and users hear nothing.

The breaks were tried where they run in a second: tests/unit/test_backfill.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli.main import main
from ops.local.kafka import KafkaServer
from schemas.events import Verdict
from stream.kafka import Admin
from tests.support.deployment import ROOT, Deployment, SentUpload, until
from tests.support.indexed import assert_index_is_the_ledgers
from tests.support.judged import rule_of
from tests.support.offline import disagreement
from tests.support.photos import mixture

pytestmark = pytest.mark.timeout(400)

COUNT = 40


@pytest.fixture
def deployment(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment.create(tmp_path, kafka.bootstrap, milvus_uri)
    yield made
    made.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Photographs and edits of them, and a file that is no picture."""
    folder = tmp_path / "library"
    folder.mkdir()
    for n, (_, value) in enumerate(mixture(COUNT - 1, seed=21)):
        (folder / f"{n:03}.jpg").write_bytes(value)
    (folder / "zzz.jpg").write_bytes(b"no picture")
    return folder


def config_of(deployment: Deployment) -> str:
    config = deployment.folder / "backfill.yaml"
    config.write_text(yaml.safe_dump(deployment.values))
    return str(config)


def report_of(deployment: Deployment, *arguments: str) -> dict[str, Any]:
    out = deployment.folder / "report.json"
    assert main(["backfill", *arguments, "--json", str(out), "--config", config_of(deployment)]) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def sent_to(deployment: Deployment) -> int:
    topics = deployment.settings.topics
    if topics.backfill not in Admin(deployment.settings).existing([topics.backfill]):
        return 0
    return sum(high for _, high in Admin(deployment.settings).ends(topics.backfill, range(topics.partitions)).values())


def test_a_library_is_judged_indexed_and_gone_on_with_after_a_kill(deployment: Deployment, library: Path) -> None:
    """Killed in the middle and run again: every file was sent once, judged as the offline judge does, and is in the
    index; the users' topics are empty; a live upload of a picture of the library is a duplicate of it.
    """
    worker = deployment.start("a")
    worker.wait_ready()
    command = [sys.executable, "-m", "ops.cli.main", "backfill", str(library), "--rate", "4", "--ahead", "8"]
    log = deployment.folder / "backfill.log"
    with log.open("wb") as out:
        killed = subprocess.Popen(
            [*command, "--config", config_of(deployment)], cwd=ROOT, stdout=out, stderr=out
        )  # fmt: skip
    until(lambda: sent_to(deployment) >= 8, 120, log.read_text)
    killed.kill()
    killed.wait()
    sent = sent_to(deployment)
    assert sent < COUNT
    result = report_of(deployment, str(library))
    assert sent_to(deployment) == COUNT
    assert result["dead_letters"] == {"unsupported_format": 1}
    assert sum(result["verdicts"].values()) == COUNT - 1
    assert result["verdicts"]["unique"] > 0
    assert len(result["duplicates"]) == COUNT - 1 - result["verdicts"]["unique"]
    assert deployment.judged() == 0, "users heard of a backfill"
    topics = deployment.settings.topics
    answers = deployment.offline(rule_of)
    records = [r for r in deployment.read(topics.backfilled) if b"dead" not in dict(r.headers)["ce_type"]]
    verdicts = [Verdict.model_validate_json(record.value or b"") for record in records]
    assert Counter(v.upload_id for v in verdicts).most_common(1)[0][1] == 1
    assert not [w for v in verdicts if v.trace and (w := disagreement(answers[v.trace.source.key], v))]
    assert_index_is_the_ledgers(deployment, lambda: "not indexed")
    # The dead letter is tried again, the rest is left out.
    assert report_of(deployment, str(library))["verdicts"] == result["verdicts"]
    assert sent_to(deployment) == COUNT + 1
    original = next(v.upload_id for v in verdicts if v.verdict == "unique")
    deployment.send([SentUpload("live", (library / original).read_bytes(), "default")])
    deployment.wait_judged(1)
    (live,) = deployment.verdicts()
    assert live.verdict == "duplicate"
    assert live.match is not None
    assert live.match.upload_id == original
    assert worker.metrics()["dejaview_upload_to_verdict_seconds_count"] == 1


def test_a_topic_of_uploads_is_a_library(deployment: Deployment) -> None:
    """The uploads of an old topic, in another deployment: judged as they were, under their own tenants."""
    old = Deployment.create(
        deployment.folder, deployment.settings.kafka.bootstrap_servers, deployment.settings.index.uri
    )
    old.send(SentUpload(f"u{n}", value, f"tenant-{n % 3}", n % 4) for n, (_, value) in enumerate(mixture(20, seed=22)))
    deployment.start("a").wait_ready()
    result = report_of(deployment, "--topic", old.settings.topics.uploads)
    assert sum(result["verdicts"].values()) == 20
    assert {one["tenant"] for one in result["duplicates"]} <= {"tenant-0", "tenant-1", "tenant-2"}
    assert deployment.judged() == 0
    assert report_of(deployment, "--topic", old.settings.topics.uploads) == result
    assert sent_to(deployment) == 20
