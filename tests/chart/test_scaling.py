"""As many pods as there is work, never more than partitions; and what a node's drain may take away."""

from __future__ import annotations

from typing import Any

import pytest

from stream.config import Settings
from tests.support.helm import EXAMPLES, refusal, render

STAGES = ["encode", "decide", "index"]
KEDA = {stage: {"keda": {"enabled": True}} for stage in STAGES}
HPA = {stage: {"hpa": {"enabled": True}} for stage in STAGES}


def test_keda_scales_on_the_lag_that_dejaview_commits() -> None:
    """Group and topic of each stage, at most one pod a partition. Breaks, each tried: another topic; no cap."""
    rendered = render(values={**KEDA, "config": {"kafka": {"group_prefix": "shop"}, "topics": {"partitions": 7}}})
    topics = Settings().topics
    read = {"encode": topics.uploads, "decide": topics.fingerprints, "index": topics.ledger}
    for stage in STAGES:
        spec = rendered.named("ScaledObject", stage)["spec"]
        assert spec["maxReplicaCount"] == 7
        assert spec["minReplicaCount"] >= 1
        workload = rendered.workload(stage)
        assert spec["scaleTargetRef"] == {
            "apiVersion": "apps/v1", "kind": workload["kind"], "name": workload["metadata"]["name"],
        }  # fmt: skip
        (trigger,) = spec["triggers"]
        assert trigger["metadata"]["consumerGroup"] == f"shop-{stage}"
        assert trigger["metadata"]["topic"] == read[stage]
        assert trigger["metadata"]["bootstrapServers"] == "kafka:9092"
        assert trigger["metadata"]["allowIdleConsumers"] == "false"
        # Two who set the number would undo each other's.
        assert "replicas" not in workload["spec"]


def test_uploads_may_have_partitions_of_their_own() -> None:
    """Only ENCODE reads them."""
    rendered = render(values={**KEDA, "encode": {"partitions": 30, "keda": {"enabled": True}}})
    assert [rendered.named("ScaledObject", stage)["spec"]["maxReplicaCount"] for stage in STAGES] == [30, 12, 12]


def test_keda_logs_in_where_it_is_told_how() -> None:
    rendered = render(values={**KEDA, "keda": {"authenticationRef": "kafka"}})
    (trigger,) = rendered.named("ScaledObject", "decide")["spec"]["triggers"]
    assert trigger["authenticationRef"] == {"name": "kafka"}
    (trigger,) = render(values=KEDA).named("ScaledObject", "decide")["spec"]["triggers"]
    assert "authenticationRef" not in trigger


def test_an_hpa_is_capped_too() -> None:
    rendered = render(values=HPA)
    for stage in STAGES:
        spec = rendered.named("HorizontalPodAutoscaler", stage)["spec"]
        assert spec["maxReplicas"] == 12
        assert spec["scaleTargetRef"]["kind"] == rendered.workload(stage)["kind"]
        assert "replicas" not in rendered.workload(stage)["spec"]


@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_pods_leave_slowly(kind: str) -> None:
    """Each that leaves moves partitions. Break, tried: no `behavior`."""
    rendered = render(values=KEDA if kind == "ScaledObject" else HPA)
    spec = rendered.named(kind, "decide")["spec"]
    if kind == "ScaledObject":
        spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
    down = spec["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_nothing_scales_unless_told_to() -> None:
    rendered = render()
    assert not rendered.of("ScaledObject")
    assert not rendered.of("HorizontalPodAutoscaler")
    assert [rendered.workload(stage)["spec"]["replicas"] for stage in STAGES] == [2, 2, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"encode": {"hpa": {"enabled": True}, "keda": {"enabled": True}}},
            ["encode.hpa.enabled", "encode.keda.enabled", "turn one off"],
        ),
        ({"decide": {"replicas": 13}}, ["decide.replicas (13)", "config.topics.partitions (12)", "lower replicas"]),
        (
            {"index": {"keda": {"enabled": True, "maxReplicas": 20}}},
            ["index.keda.maxReplicas (20)", "config.topics.partitions (12)"],
        ),
        (
            {"encode": {"partitions": 4, "hpa": {"enabled": True, "maxReplicas": 5}}},
            ["encode.hpa.maxReplicas (5)", "encode.partitions (4)"],
        ),
        (
            {"decide": {"hpa": {"enabled": True, "minReplicas": 6, "maxReplicas": 5}}},
            ["decide.hpa.minReplicas (6)", "(5)", "lower minReplicas"],
        ),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: list[str]) -> None:
    """The message names both values and the fix. Break, tried: `dejaview.checkScale` not called."""
    said = refusal(values)
    assert all(word in said for word in words), said


@pytest.mark.parametrize("case", ["", *EXAMPLES])
def test_a_drain_takes_one_pod_of_a_stage_at_a_time(case: str) -> None:
    """And nodes can be drained while Milvus is away, and where a stage has one pod. Break, tried: `minAvailable: 1`."""
    rendered = render(case)
    for stage in STAGES:
        spec = rendered.named("PodDisruptionBudget", stage)["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert spec["selector"] == rendered.workload(stage)["spec"]["selector"]


def test_a_budget_can_be_left_out() -> None:
    budgets = render(values={"index": {"pdb": {"enabled": False}}}).of("PodDisruptionBudget")
    assert [budget["metadata"]["name"] for budget in budgets] == ["shop-encode", "shop-decide"]
