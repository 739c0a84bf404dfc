"""Values that cannot work are refused before anything is changed, with the value and the fix."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.helm import CHART, RELEASE, helm, refusal, render


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"config": {"instance_id": "one"}}, ["config.instance_id", "leave it out"]),
        ({"decide": {"env": [{"name": "DEJAVIEW_INSTANCE_ID", "value": "one"}]}}, ["decide.env", "leave it out"]),
        ({"config": {"health": {"port": 80}}}, ["config.health.port", "leave it out"]),
        ({"config": {"health": {"host": "127.0.0.1"}}}, ["config.health.host", "leave it out"]),
        ({"encode": {"env": [{"name": "DEJAVIEW_DRAIN_S", "value": "90"}]}}, ["DEJAVIEW_DRAIN_S", "config.drain_s"]),
        ({"config": {"index": {"uri": "/data/milvus.db"}}}, ["/data/milvus.db", "Milvus Lite", "Milvus server"]),
        ({"secrets": {"s3": {"accessKeyId": {"name": "s", "key": "k"}}}}, ["accessKeyId", "secretAccessKey"]),
        (
            {"encode": {"gpu": {"count": 1}}, "config": {"model": {"runtime": "openvino"}}},
            ["encode.gpu.count is 1", "openvino", "tensorrt"],
        ),
        (
            {"encode": {"gpu": {"count": 2}}, "config": {"model": {"runtime": "torch"}}},
            ["encode.gpu.count is 2", "torch", "tensorrt"],
        ),
        ({"config": {"model": {"runtime": "tensorrt"}}}, ["tensorrt", "encode.gpu.count", "gpu.count to 1"]),
        ({"config": {"model": {"runtime": "torch-cuda"}}}, ["torch-cuda", "encode.gpu.count", "gpu.count to 1"]),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: list[str]) -> None:
    """Break, tried: the check left out of `dejaview.checks`."""
    said = refusal(values)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"config": {"model": {"runtime": "onnx"}}}, "/config/model/runtime"),
        ({"config": {"topics": {"partitions": 97}}}, "/config/topics/partitions"),
        ({"config": {"drain_s": 0}}, "/config/drain_s"),
        ({"config": {"delivery": "at_most_once"}}, "/config/delivery"),
        ({"encode": {"replicas": -1}}, "/encode/replicas"),
        ({"encode": {"replicas": "2"}}, "/encode/replicas"),
        ({"encode": {"keda": {"minReplicas": 0}}}, "/encode/keda/minReplicas"),
        ({"security": {"runAsUser": 0}}, "/security/runAsUser"),
        ({"secrets": {"milvus": {"token": {"name": "m"}}}}, "/secrets/milvus/token"),
        ({"secrets": {"kafka": {"options": {"sasl.password": {}}}}}, "/secrets/kafka/options/sasl.password"),
        ({"secrets": {"kafka": {"options": {"../x": {"name": "k", "key": "k"}}}}}, "/secrets/kafka/options"),
        ({"encode": {"tolerations": [{"operator": "Exist"}]}}, "/encode/tolerations/0/operator"),
        ({"encode": {"resources": {"limit": {}}}}, "/encode/resources"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"networkPolicy": {"egress": {"kafka": {"ports": [0]}}}}, "/networkPolicy/egress/kafka/ports/0"),
        ({"metrics": {"serviceMonitor": {"interval": "15"}}}, "/metrics/serviceMonitor/interval"),
    ],
)
def test_wrong_values_are_refused_by_the_schema(values: dict[str, Any], place: str) -> None:
    """The message has the place. Break, tried: the schema not generated anew after a bound was taken out."""
    assert f"at '{place}'" in refusal(values)


def test_an_old_kubernetes_is_refused() -> None:
    """1.26 does not know how to evict pods that are not ready."""
    ended = helm("template", RELEASE, str(CHART), "--kube-version", "1.26.0")
    assert ended.code != 0
    assert "kubeVersion" in ended.err


def test_the_notes_say_what_to_check_next(tmp_path: Path) -> None:
    """With what is off, and an image without a registry, said. Break, tried: the name of another pod."""
    chart = tmp_path / "dejaview"
    shutil.copytree(CHART, chart)
    # Only an install into a cluster shows notes: here they are a manifest's text.
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "notes.yaml").write_text(
        f'{{{{ define "notes" }}}}{text}{{{{ end }}}}\napiVersion: v1\nkind: Notes\nmetadata: {{name: shop-notes}}\n'
        'text: {{ include "notes" . | quote }}\n'
    )
    notes = " ".join(render(chart=chart).named("Notes", "notes")["text"].split())
    assert "exec shop-decide-0 -- dejaview doctor --config /etc/dejaview/settings/dejaview.yaml" in notes
    assert "image.repository is `dejaview`, without a registry" in notes
    assert "metrics.serviceMonitor.enabled is off" in notes
    assert "brokers are asked without a password" in notes


def test_names_fit() -> None:
    """Kubernetes takes 63 characters, and a StatefulSet's pods get a number."""
    rendered = render(values={"fullnameOverride": "n" * 40})
    assert max(len(one["metadata"]["name"]) for one in rendered.manifests) <= 52
    assert "maxLength" in refusal({"fullnameOverride": "n" * 41})
