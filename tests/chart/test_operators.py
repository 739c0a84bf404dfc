"""The examples for Strimzi, Milvus's operator and KEDA match the example values and the rights that dejaview needs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from ops.cli.topics import planned
from stream.config import Settings, TopicSettings
from tests.support.helm import CHART, Manifest, paths, render
from tests.support.secured import KAFKA_RIGHTS

FOLDER = CHART / "examples" / "operators"
STAGES = ["encode", "decide", "index"]
CLUSTER = ["cpu-production", "gpu-production", "multi-tenant"]
SAME_TOPICS = ["cpu-production", "gpu-production"]
RESOURCES = {"topic": "topic", "group": "group", "transactional id": "transactionalId"}


def objects(file: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / f"{file}.yaml").read_text()))


def of(file: str, kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in objects(file) if one["kind"] == kind}


def rights(user: str) -> set[tuple[str, str, str, str]]:
    """Resource, name, pattern and operation of every ACL."""
    acls = of("strimzi", "KafkaUser")[user]["spec"]["authorization"]["acls"]
    return {
        (acl["resource"]["type"], acl["resource"]["name"], acl["resource"].get("patternType", "literal"), operation)
        for acl in acls
        for operation in acl["operations"]
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_user_has_the_rights_it_needs_and_no_more(stage: str) -> None:
    """Those of SECURITY.md, which `test_secured_servers.py` tries on a real Kafka; DESCRIBE on every topic, and the
    retention of what it reads for /metrics.

    Breaks, each tried: READ on the ledger for ENCODE; the transactional id without its prefix.
    """
    topics = TopicSettings()
    needed = {
        (
            RESOURCES[right.resource],
            right.named(topics, "dejaview"),
            "prefix" if right.resource == "transactional id" else "literal",
            right.operation.title(),
        )
        for right in KAFKA_RIGHTS
        if stage in right.stages
    }
    describe = {("topic", name, "literal", "Describe") for name in planned(topics)}
    found = rights(f"dejaview-{stage}")
    assert needed | describe <= found
    reads = {"encode": topics.uploads, "decide": topics.fingerprints}
    retention = {("topic", reads[stage], "literal", "DescribeConfigs")} if stage in reads else set()
    # READ and WRITE include it.
    assert {right for right in found - needed - describe if right[3] != "Describe"} == retention


def test_keda_may_look_at_the_lag_and_do_nothing() -> None:
    found = rights("dejaview-keda")
    assert {operation for *_, operation in found} == {"Describe"}
    for stage in STAGES:
        (trigger,) = render(values={stage: {"keda": {"enabled": True}}}).named("ScaledObject", stage)["spec"][
            "triggers"
        ]
        for resource, name in (("group", "consumerGroup"), ("topic", "topic")):
            assert (resource, trigger["metadata"][name], "literal", "Describe") in found


@pytest.mark.parametrize("case", SAME_TOPICS)
def test_topics_are_those_that_topics_create_would_make(case: str) -> None:
    """Partitions, copies and configuration. Break, tried: the ledger's retention left out."""
    settings = Settings(topics=render(case).settings("encode")["topics"])
    made = {name: one["spec"] for name, one in of("strimzi", "KafkaTopic").items()}
    wanted = planned(settings.topics)
    assert set(made) == set(wanted)
    for name, config in wanted.items():
        assert {key: str(value) for key, value in made[name]["config"].items()} == config, name
        assert made[name]["partitions"] == settings.topics.partitions
        assert made[name]["replicas"] == settings.topics.replication_factor
    assert render(case).of("Job") == []


@pytest.mark.parametrize("case", CLUSTER)
def test_addresses_and_secrets_are_those_of_the_operators(case: str) -> None:
    """What the operators will call their Services and Secrets. Break, tried: another cluster name."""
    rendered = render(case)
    (cluster,) = of("strimzi", "Kafka")
    listeners = {one["port"]: one for one in of("strimzi", "Kafka")[cluster]["spec"]["kafka"]["listeners"]}
    kafka = rendered.settings("decide")["kafka"]
    host, _, port = kafka["bootstrap_servers"].partition(":")
    assert host == f"{cluster}-kafka-bootstrap"
    scram = kafka["options"]["security.protocol"] == "SASL_SSL"
    assert listeners[int(port)]["authentication"]["type"] == ("scram-sha-512" if scram else "tls")
    (vectors,) = of("milvus", "Milvus")
    (certificate,) = of("milvus", "Certificate").values()
    assert rendered.settings("decide")["index"]["uri"] == f"https://{vectors}-milvus:19530"
    assert certificate["spec"]["dnsNames"] == [f"{vectors}-milvus"]
    users = set(of("strimzi", "KafkaUser"))
    made = {f"{cluster}-cluster-ca-cert", certificate["spec"]["secretName"], *users, "dejaview-milvus", "dejaview-s3"}
    assert secret_names(rendered.manifests) <= made
    for stage in STAGES:
        peers = rendered.named("NetworkPolicy", stage)["spec"]["egress"][1]["to"]
        assert peers == [{"podSelector": {"matchLabels": {"strimzi.io/cluster": cluster}}}]


def secret_names(manifests: list[Manifest]) -> set[str]:
    return {
        value
        for manifest in manifests
        for path, value in paths(manifest)
        if re.search(r"(\.secret|secretKeyRef)\.name$", path)
    }


def test_keda_is_told_how_to_log_in() -> None:
    """The TriggerAuthentication that the examples name; every Secret in it is one that somebody makes."""
    (name,) = of("keda", "TriggerAuthentication")
    refs = of("keda", "TriggerAuthentication")[name]["spec"]["secretTargetRef"]
    made = {*of("keda", "Secret"), *of("strimzi", "KafkaUser"), "events-cluster-ca-cert"}
    assert {ref["name"] for ref in refs} <= made
    assert {ref["parameter"] for ref in refs} == {"sasl", "tls", "username", "password", "ca"}
    (secret,) = of("keda", "Secret").values()
    assert secret["stringData"]["username"] in of("strimzi", "KafkaUser")
    (trigger,) = render("cpu-production").named("ScaledObject", "encode")["spec"]["triggers"]
    assert trigger["authenticationRef"] == {"name": name}


def test_the_readme_shows_what_the_files_have() -> None:
    """The topic and the user in the README are pieces of strimzi.yaml. Break, tried: another partition count."""
    shown = re.findall(r"```yaml\n(apiVersion: kafka.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    topic, user = yaml.safe_load_all(shown[0])
    assert topic == of("strimzi", "KafkaTopic")["dejaview.ledger"]
    full: dict[str, Any] = of("strimzi", "KafkaUser")["dejaview-encode"]
    listed = user["spec"]["authorization"].pop("acls")
    acls = full["spec"]["authorization"].pop("acls")
    assert user == full
    assert all(acl in acls for acl in listed)
