"""Everything that is not named is denied, both ways; each stage reaches what it needs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.helm import Rendered, render

STAGES = ["encode", "decide", "index", "topics"]
ANYWHERE: list[dict[str, Any]] = []


def egress(rendered: Rendered, stage: str) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Protocol and port -> peers; none is anywhere."""
    rules = rendered.named("NetworkPolicy", stage)["spec"]["egress"]
    return {(port["protocol"], port["port"]): rule.get("to", ANYWHERE) for rule in rules for port in rule["ports"]}


@pytest.mark.parametrize("stage", STAGES)
def test_both_ways_are_closed_first(stage: str) -> None:
    """A policy that names no Egress would deny none. Breaks, each tried: Egress left out; a selector of no pod."""
    rendered = render()
    spec = rendered.named("NetworkPolicy", stage)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    labels = rendered.workload(stage)["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert all(rule.get("ports") for rule in spec["egress"]), "no rule opens every port"


def test_a_stage_reaches_what_it_needs_and_no_more() -> None:
    """ENCODE, which decodes hostile bytes, no Milvus. Break, tried: Milvus's rule for all."""
    rendered = render(values={"config": {"intake": {"s3_buckets": ["uploads"]}}})
    dns, kafka, milvus, store = {("UDP", 53), ("TCP", 53)}, ("TCP", 9092), ("TCP", 19530), ("TCP", 443)
    assert set(egress(rendered, "encode")) == dns | {kafka, store}
    assert set(egress(rendered, "decide")) == dns | {kafka, milvus}
    assert set(egress(rendered, "index")) == dns | {kafka, milvus}
    assert set(egress(rendered, "topics")) == dns | {kafka}


@pytest.mark.parametrize(
    ("config", "stage", "ports"),
    [
        ({"kafka": {"bootstrap_servers": "a:9093, b:9094,c"}}, "index", {9092, 9093, 9094, 19530}),
        ({"kafka": {"bootstrap_servers": "[fd00::1]:9095"}}, "topics", {9095}),
        ({"index": {"uri": "https://milvus.example"}}, "decide", {9092, 443}),
        ({"index": {"uri": "https://milvus.example:8443/"}}, "decide", {9092, 8443}),
        ({"index": {"uri": "http://milvus.example"}}, "decide", {9092, 19530}),
        ({}, "encode", {9092}),
        ({"intake": {"https_enabled": True, "https_hosts": ["h"]}}, "encode", {9092, 443}),
        ({"intake": {"s3_buckets": ["b"], "s3_endpoint": "http://minio:9000"}}, "encode", {9092, 9000}),
        ({"intake": {"s3_buckets": ["b"], "s3_endpoint": "http://minio"}}, "encode", {9092, 80}),
    ],
)
def test_ports_follow_the_addresses(config: dict[str, Any], stage: str, ports: set[int]) -> None:
    """An address that is set is reachable without a second value."""
    assert {port for _, port in egress(render(values={"config": config}), stage)} - {53} == ports


def test_ports_and_peers_can_be_named() -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "kafka"}}}]
    extra = [{"ports": [{"protocol": "TCP", "port": 4317}]}]
    values = {"networkPolicy": {"egress": {"kafka": {"to": peers, "ports": [9099]}, "extra": extra}}}
    found = egress(render(values=values), "encode")
    assert found[("TCP", 9099)] == peers
    assert ("TCP", 9092) not in found
    assert ("TCP", 4317) in found


def test_only_the_monitoring_may_read_the_metrics() -> None:
    """Nobody reaches the Job. Break, tried: `from` left out, which lets everybody in."""
    rendered = render()
    for stage in ("encode", "decide", "index"):
        (rule,) = rendered.named("NetworkPolicy", stage)["spec"]["ingress"]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        assert rule["ports"] == [{"protocol": "TCP", "port": "health"}]
    assert rendered.named("NetworkPolicy", "topics")["spec"]["ingress"] == []
    nobody = render(values={"networkPolicy": {"ingressFrom": []}})
    assert nobody.named("NetworkPolicy", "decide")["spec"]["ingress"] == []


def test_https_references_leave_the_cluster_or_go_nowhere() -> None:
    """R7 once more, outside of the program: the example's encoders reach no private address but Kafka's and DNS."""
    (peer,) = egress(render("multi-tenant"), "encode")[("TCP", 443)]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"])


def test_policies_can_be_left_out() -> None:
    assert render("laptop").of("NetworkPolicy") == []
