"""A deployment with the topics of `topics create`, and what `doctor` and its single checks find there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymilvus import MilvusClient

from ops.cli.main import main
from ops.cli.topics import planned
from ops.doctor.broker import BrokerChecks
from ops.doctor.examination import impatient
from ops.doctor.index import IndexChecks
from ops.doctor.model import ModelChecks
from ops.doctor.report import Check, Finding, State, examine
from stream.config import Settings
from stream.kafka import Admin
from tests.support.deployment import Deployment, merge, own_values

PARTITIONS = 2


def created(folder: Path, bootstrap: str, milvus_uri: str, **values: Any) -> Deployment:
    """A deployment of its own; nothing runs yet."""
    merged = own_values(bootstrap, milvus_uri, PARTITIONS, values)
    settings = Settings(**merged)
    admin = Admin(settings)
    for name, config in planned(settings.topics).items():
        admin.create(name, PARTITIONS, 1, config)
    admin.partition_counts(list(planned(settings.topics)))
    return Deployment(folder, settings, merged)


def doctored(
    capsys: pytest.CaptureFixture[str], deployment: Deployment, *flags: str, **values: Any
) -> tuple[int, dict[str, dict[str, str]]]:
    """The command with a deployment's settings file; its exit code and the last finding of each check."""
    config = deployment.folder / "doctor.yaml"
    config.write_text(yaml.safe_dump(merge(deployment.values, {"instance_id": "doctor"}, values)))
    capsys.readouterr()
    code = main(["doctor", "--json", "--config", str(config), *flags])
    return code, {row["check"]: row for row in json.loads(capsys.readouterr().out)}


def with_needs(checks: list[Check], names: set[str]) -> list[Check]:
    """These checks and all that they need, in their order."""
    wanted = set(names)
    for check in reversed(checks):
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in checks if check.name in wanted]


def looked(settings: Settings, *names: str) -> dict[str, list[Finding]]:
    """What some of the checks find."""
    patient = impatient(settings)
    kafka, model = BrokerChecks(patient), ModelChecks(patient.model)
    index = IndexChecks(patient.index, model, kafka)
    found: dict[str, list[Finding]] = {}
    try:
        for finding in examine(with_needs([*model.checks(), *kafka.checks(), *index.checks()], set(names)), 60):
            found.setdefault(finding.check, []).append(finding)
    finally:
        index.close()
    return found


def broken(found: Mapping[str, list[Finding]], check: str) -> Finding:
    """The one thing that is broken, and that it is the only one."""
    wrong = [finding for findings in found.values() for finding in findings if finding.state is State.BROKEN]
    assert [finding.check for finding in wrong] == [check], wrong
    assert wrong[0].fix
    return wrong[0]


def collections_of(settings: Settings) -> list[str]:
    client = MilvusClient(settings.index.uri, timeout=10)
    try:
        return [name for name in client.list_collections(timeout=10) if name.startswith(settings.index.collection)]
    finally:
        client.close()
