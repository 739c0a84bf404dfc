"""A new model is a second deployment: backfilled from the originals, fed the same uploads, compared, switched to.

The rehearsal of `docs/operations.md`, "A new model", on real Kafka and Milvus. The new model is the built-in one with
half of its background vectors: other scores, another model id.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.background import Background
from models.manifest import BACKGROUND, BUILT_IN, CALIBRATION, refresh_manifest
from ops.cli.main import main
from ops.local.kafka import KafkaServer
from stream.kafka import Admin
from tests.support.deployment import Deployment, SentUpload
from tests.support.photos import mixture

pytestmark = pytest.mark.timeout(400)

ORIGINALS, SHADOWED = 30, 30
TENANT = "acme"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(BUILT_IN, folder)
    background = Background.load(folder)
    replace(background, vectors=background.vectors[::2]).save(folder / BACKGROUND)
    # Its thresholds are the old one's: nobody's accuracy is measured here.
    fitted = json.loads((folder / CALIBRATION).read_text()) | {"model_id": refresh_manifest(folder).model_id}
    (folder / CALIBRATION).write_text(json.dumps(fitted))
    refresh_manifest(folder)
    return folder


@pytest.fixture
def old(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Deployment]:
    (tmp_path / "old").mkdir()
    made = Deployment.create(tmp_path / "old", kafka.bootstrap, milvus_uri)
    yield made
    made.close()


@pytest.fixture
def new(old: Deployment, weights: Path, tmp_path: Path) -> Iterator[Deployment]:
    """The second deployment reads the first one's uploads; all else is its own."""
    index = old.settings.index
    (tmp_path / "new").mkdir()
    made = Deployment.create(
        tmp_path / "new", old.settings.kafka.bootstrap_servers, index.uri, model={"weights": str(weights)}
    )
    made.values["topics"]["uploads"] = old.settings.topics.uploads
    yield made
    made.close()


def config_of(deployment: Deployment) -> str:
    config = deployment.folder / "commands.yaml"
    config.write_text(yaml.safe_dump(deployment.values))
    return str(config)


def answered(deployment: Deployment) -> dict[str, str]:
    return {verdict.upload_id: str(verdict.verdict) for verdict in deployment.verdicts()}


def test_a_new_model_is_backfilled_shadowed_compared_and_switched_to(
    old: Deployment, new: Deployment, tmp_path: Path
) -> None:
    pictures = [value for _, value in mixture(ORIGINALS + SHADOWED + 2, seed=31)]

    def uploads(first: int, last: int) -> list[SentUpload]:
        return [SentUpload(f"u{n}", pictures[n], TENANT, n % 4) for n in range(first, last)]

    # Before: the old deployment has judged what is the new one's library.
    before = old.start("old")
    before.wait_ready()
    old.send(uploads(0, ORIGINALS))
    old.wait_judged(ORIGINALS)
    # 1. The new deployment is up, and begins after the originals; its library comes from the old uploads.
    shadow = new.start("new", first_start="latest")
    shadow.wait_ready()
    report = tmp_path / "report.json"
    backfill = ["backfill", "--topic", old.settings.topics.uploads, "--json", str(report)]
    assert main([*backfill, "--config", config_of(new)]) == 0
    counted: dict[str, Any] = json.loads(report.read_text())
    assert sum(counted["verdicts"].values()) == ORIGINALS
    # 2. Both judge the same uploads.
    old.send(uploads(ORIGINALS, ORIGINALS + SHADOWED))
    old.wait_judged(ORIGINALS + SHADOWED)
    new.wait_judged(SHADOWED)
    models = [{v.model_id for v in deployment.verdicts()} for deployment in (old, new)]
    assert len(models[0] | models[1]) == 2
    # 3. The flips, with pictures.
    found, page = tmp_path / "flips.json", tmp_path / "flips.html"
    compare = ["compare", "--with", config_of(new), "--json", str(found), "--html", str(page), "--shown", "1000"]
    assert main([*compare, "--config", config_of(old)]) == 0
    result: dict[str, Any] = json.loads(found.read_text())
    assert result["compared"] == ORIGINALS + SHADOWED
    assert (result["only_old"], result["only_new"]) == (0, 0)
    told = {flip["upload_id"]: (flip["old"]["kind"], flip["new"]["kind"]) for flip in result["flips"]}
    mine, theirs = answered(old), answered(new)
    assert {u: (mine[u], theirs[u]) for u in theirs if mine[u] != theirs[u]}.items() <= told.items()
    differing = len(result["flips"]) + len(result["other_matches"])
    assert page.read_text().count("class='flip'") == differing
    assert page.read_text().count("<img") >= differing
    # 4. The switch: the new one stops, then the old one, which is further; the new one goes on under the users' names.
    assert shadow.terminate() == 0
    old.send(uploads(ORIGINALS + SHADOWED, ORIGINALS + SHADOWED + 1))
    old.wait_judged(ORIGINALS + SHADOWED + 1)
    assert before.terminate() == 0
    users = {name: getattr(old.settings.topics, name) for name in ("unique", "duplicate", "review", "deadletters")}
    seen = old.judged()
    after = new.start("new", topics=users)
    after.wait_ready()
    old.send(uploads(ORIGINALS + SHADOWED + 1, ORIGINALS + SHADOWED + 2))
    old.wait_judged(seen + 2)
    # Nothing is lost; what came between the two stops is answered by both models.
    by_id = {u: {v.model_id for v in old.verdicts() if v.upload_id == u} for u in ("u60", "u61")}
    assert by_id == {"u60": models[0] | models[1], "u61": models[1]}
    assert len(answered(old)) == ORIGINALS + SHADOWED + 2
    topics = new.settings.topics
    assert topics.backfill in Admin(new.settings).existing([topics.backfill])
