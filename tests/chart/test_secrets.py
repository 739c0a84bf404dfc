"""Secrets are named, mounted as files to those who need them, and in no manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli.settings import load_settings
from stream.secrets import _SECRET_OPTION
from tests.support.helm import CHART, EXAMPLES, Rendered, refusal, render

STAGES = ["encode", "decide", "index", "topics"]
SECRETS = {
    "kafka": {"options": {"sasl.password": {"name": "k", "key": "password"}}, "ca": {"name": "kca", "key": "ca.crt"}},
    "milvus": {"token": {"name": "m", "key": "token"}, "ca": {"name": "mca", "key": "ca.crt"}},
    "s3": {"accessKeyId": {"name": "s", "key": "id"}, "secretAccessKey": {"name": "s", "key": "secret"}},
}


def mounted(rendered: Rendered, stage: str) -> dict[str, tuple[str, str]]:
    """Path in the pod -> Secret and key."""
    sources = [
        source["secret"]
        for volume in rendered.pod(stage)["volumes"]
        if volume["name"] == "secrets"
        for source in volume["projected"]["sources"]
    ]
    (folder,) = [m["mountPath"] for m in rendered.container(stage)["volumeMounts"] if m["name"] == "secrets"] or [""]
    return {f"{folder}/{item['path']}": (one["name"], item["key"]) for one in sources for item in one["items"]}


def named_files(settings: dict[str, Any]) -> set[str]:
    """The files of secrets that a settings file names."""
    kafka, index, intake = settings["kafka"], settings["index"], settings.get("intake", {})
    found = [*kafka["option_files"].values(), kafka["options"].get("ssl.ca.location")]
    found += [index.get("token_file"), index.get("server_pem"), intake.get("s3_secret_access_key_file")]
    return {file for file in found if file}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", ["all", *EXAMPLES])
def test_every_file_that_is_named_is_mounted(tmp_path: Path, case: str, stage: str) -> None:
    """A pod would stop at the first that is not. Breaks, each tried: a path misspelt; a source left out."""
    rendered = render(values={"secrets": SECRETS}) if case == "all" else render(case)
    if stage == "topics" and not rendered.of("Job"):
        return
    settings = rendered.settings(stage)
    assert named_files(settings) == set(mounted(rendered, stage))
    file = tmp_path / "dejaview.yaml"
    file.write_text(yaml.safe_dump(settings))
    load_settings(file, [], {})


def test_a_stage_gets_what_it_needs_and_no_more() -> None:
    """Code that breaks out of a decoder finds no key of Milvus. Break, tried: Milvus's token for all stages."""
    rendered = render(values={"secrets": SECRETS})
    folder = "/etc/dejaview/secrets"
    kafka = {f"{folder}/kafka/sasl.password": ("k", "password"), f"{folder}/kafka-ca.pem": ("kca", "ca.crt")}
    milvus = {f"{folder}/milvus-token": ("m", "token"), f"{folder}/milvus-ca.pem": ("mca", "ca.crt")}
    assert mounted(rendered, "encode") == kafka | {f"{folder}/s3-secret-access-key": ("s", "secret")}
    assert mounted(rendered, "decide") == mounted(rendered, "index") == kafka | milvus
    assert mounted(rendered, "topics") == kafka
    key = {"name": "DEJAVIEW_INTAKE__S3_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s", "key": "id"}}}
    assert [stage for stage in STAGES if key in rendered.container(stage)["env"]] == ["encode"]


def test_a_stage_has_a_kafka_user_of_its_own() -> None:
    """Break, tried: `dejaview.kafkaOptions` without the stage's."""
    own = {"username": "judge", "options": {"sasl.password": {"name": "judge", "key": "password"}}}
    rendered = render(values={"secrets": SECRETS, "decide": {"kafka": own}})
    file = "/etc/dejaview/secrets/kafka/sasl.password"
    assert {stage: mounted(rendered, stage)[file][0] for stage in STAGES} == {
        "encode": "k", "decide": "judge", "index": "k", "topics": "k",
    }  # fmt: skip
    assert rendered.settings("decide")["kafka"]["options"]["sasl.username"] == "judge"
    assert "sasl.username" not in rendered.settings("encode")["kafka"]["options"]


def test_secrets_are_read_only_by_the_pods_own_group() -> None:
    (volume,) = [v for v in render("cpu-production").pod("decide")["volumes"] if v["name"] == "secrets"]
    assert volume["projected"]["defaultMode"] == 0o440


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_chart_makes_no_secret(case: str) -> None:
    """Neither as an object nor in the environment."""
    rendered = render(case)
    assert rendered.of("Secret") == []
    for stage in ("encode", "decide", "index"):
        for variable in rendered.container(stage)["env"]:
            assert "value" not in variable or variable["name"] in {"HOME", "DEJAVIEW_CACHE"}


@pytest.mark.parametrize(
    ("values", "place", "fix"),
    [
        ({"config": {"kafka": {"options": {"sasl.password": "hunter2"}}}}, "sasl.password", "secrets.kafka.options"),
        ({"config": {"kafka": {"options": {"SSL.Key.PEM": "hunter2"}}}}, "SSL.Key.PEM", "secrets.kafka.options"),
        ({"config": {"kafka": {"consumer_options": {"ssl.key.password": "hunter2"}}}}, "consumer_options", "secrets"),
        ({"config": {"kafka": {"producer_options": {"sasl.jaas.config": "hunter2"}}}}, "producer_options", "secrets"),
        ({"config": {"index": {"token": "root:hunter2"}}}, "config.index.token", "secrets.milvus.token"),
        ({"config": {"index": {"uri": "http://root:hunter2@milvus:19530"}}}, "config.index.uri", "secrets.milvus"),
        ({"config": {"intake": {"s3_secret_access_key": "hunter2"}}}, "s3_secret_access_key", "secrets.s3.secret"),
        ({"config": {"intake": {"s3_access_key_id": "hunter2"}}}, "s3_access_key_id", "secrets.s3.accessKeyId"),
        ({"decide": {"env": [{"name": "DEJAVIEW_INDEX__TOKEN", "value": "hunter2"}]}}, "decide.env", "secretKeyRef"),
        ({"topicsJob": {"env": [{"name": "MY_PASSWORD", "value": "hunter2"}]}}, "topicsJob.env", "secretKeyRef"),
    ],
)  # fmt: skip
def test_a_secret_in_the_values_is_refused(values: dict[str, Any], place: str, fix: str) -> None:
    """The message says where it belongs, and not what it is."""
    said = refusal(values)
    assert place in said
    assert fix in said
    assert "hunter2" not in said


def test_a_file_of_a_secret_is_no_secret() -> None:
    """What only names a file may be in the environment, and what names a Secret's key."""
    env = [
        {"name": "DEJAVIEW_INDEX__TOKEN_FILE", "value": "/vault/token"},
        {"name": "DEJAVIEW_INDEX__TOKEN", "valueFrom": {"secretKeyRef": {"name": "m", "key": "token"}}},
    ]
    assert render(values={"decide": {"env": env}}).container("decide")["env"][-2:] == env


def test_the_same_options_are_secret_as_in_the_program() -> None:
    """Break, tried: a word left out of the chart's pattern."""
    assert f"(?i){_SECRET_OPTION.pattern}" in (CHART / "templates" / "_checks.tpl").read_text()
