"""Pods as they run: settings that the program takes, secrets only as files, no rights, time to drain, enough memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.capacity import memory_bound_bytes
from ops.cli.main import COMMANDS
from ops.cli.settings import load_settings
from stream.config import Settings
from stream.service import Stage
from tests.support.helm import CHART, EXAMPLES, Manifest, paths, render

CASES = ["", *EXAMPLES]
STAGES = ["encode", "decide", "index"]
PODS = [(case, stage) for case in CASES for stage in STAGES]
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def bytes_of(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def loaded(folder: Path, given: dict[str, Any]) -> Settings:
    """The settings as the program reads them from the file."""
    file = folder / "dejaview.yaml"
    file.write_text(yaml.safe_dump(given))
    return load_settings(file, [], {}).settings


@pytest.mark.parametrize(("case", "stage"), PODS)
def test_the_program_takes_the_settings(tmp_path: Path, case: str, stage: str) -> None:
    """The ConfigMap is a settings file, its numbers arrive as they were given, health is reachable from outside.

    Breaks, each tried: `health.host` left out; a setting misspelt past the schema.
    """
    rendered = render(case)
    settings = loaded(tmp_path, rendered.settings(stage))
    assert (settings.health.host, settings.health.port) == ("0.0.0.0", 9464)  # noqa: S104 - in a pod
    assert settings.intake.bytes_max == 20_000_000
    container = rendered.container(stage)
    assert container["command"] == ["dejaview"]
    assert container["args"][0] in COMMANDS
    assert container["args"][1:] == ["--config", "/etc/dejaview/settings/dejaview.yaml", "--stage", stage]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["settings"] == "/etc/dejaview/settings"


@pytest.mark.parametrize(("case", "stage"), PODS)
def test_a_pod_lives_longer_than_its_drain(tmp_path: Path, case: str, stage: str) -> None:
    """R9: the program ends by itself after drain_s, before it is killed. Break, tried: no 15 s in `_pod.tpl`."""
    rendered = render(case)
    settings = loaded(tmp_path, rendered.settings(stage))
    assert rendered.pod(stage)["terminationGracePeriodSeconds"] >= settings.drain_s + 10


def test_the_grace_period_follows_the_setting() -> None:
    """Also where the drain is no whole number. Break, tried: `int` instead of `ceil`."""
    for drain_s in (0.5, 90.2, 600):
        rendered = render(values={"config": {"drain_s": drain_s}})
        assert rendered.pod("decide")["terminationGracePeriodSeconds"] == math.ceil(drain_s) + 15


@pytest.mark.parametrize(("case", "stage"), PODS)
def test_a_memory_limit_allows_what_the_formula_says(tmp_path: Path, case: str, stage: str) -> None:
    """R8: `dejaview config --memory` for these settings, a DECIDE that owns every partition; nothing is wasted either.

    Break, tried: the default of DECIDE 5000Mi.
    """
    rendered = render(case)
    bound = memory_bound_bytes(loaded(tmp_path, rendered.settings(stage)), [Stage(stage)])
    limit = bytes_of(rendered.container(stage)["resources"]["limits"]["memory"])
    # The CUDA libraries of a GPU's process are not in the formula.
    beside = 4 * 10**9 if "nvidia.com/gpu" in rendered.container(stage)["resources"]["limits"] else 0
    assert bound + beside <= limit <= 1.1 * (bound + beside) + 250 * 10**6


def test_no_cpu_limit() -> None:
    """A throttled decoder runs out of its wall time."""
    for case, stage in PODS:
        assert "cpu" not in render(case).container(stage)["resources"]["limits"]


@pytest.mark.parametrize("stage", [*STAGES, "topics"])
def test_pods_are_restricted(stage: str) -> None:
    """The `restricted` standard, a read-only root, no token. Breaks, each tried: any of these lines left out."""
    rendered = render()
    pod, container = rendered.pod(stage), rendered.container(stage)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert all("hostPath" not in volume for volume in pod["volumes"])
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["tmp"]
    (tmp,) = [volume for volume in pod["volumes"] if volume["name"] == "tmp"]
    assert tmp["emptyDir"]["sizeLimit"]


def test_users_can_be_left_to_the_cluster() -> None:
    """OpenShift chooses the user; the rest stays."""
    context = render(values={"security": {"runAsUser": None, "runAsGroup": None}}).pod("encode")["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_service_account_is_empty() -> None:
    rendered = render()
    assert rendered.named("ServiceAccount")["automountServiceAccountToken"] is False
    assert not rendered.of("Role")
    assert not rendered.of("RoleBinding")
    assert rendered.pod("encode")["serviceAccountName"] == "shop"
    theirs = render(values={"serviceAccount": {"create": False, "name": "theirs"}})
    assert theirs.of("ServiceAccount") == []
    assert theirs.pod("decide")["serviceAccountName"] == "theirs"


@pytest.mark.parametrize("stage", STAGES)
def test_three_probes(stage: str) -> None:
    """Only /livez restarts; /readyz, which Kafka and Milvus fail, never does. Break, tried: /readyz as liveness."""
    container = render().container(stage)
    assert container["ports"] == [{"name": "health", "containerPort": 9464}]
    probed = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probed == {
        "startup": {"path": "/livez", "port": "health"},
        "liveness": {"path": "/livez", "port": "health"},
        "readiness": {"path": "/readyz", "port": "health"},
    }
    startup = container["startupProbe"]
    # A start ends by itself when Kafka does not answer: first comes that, with its message.
    assert startup["periodSeconds"] * startup["failureThreshold"] > Settings().kafka.request_timeout_s + 60


def test_a_decider_is_called_as_its_pod() -> None:
    """R2: the transactional id is stable. Break, tried: no DEJAVIEW_INSTANCE_ID."""
    rendered = render()
    own = {"name": "DEJAVIEW_INSTANCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert own in rendered.container("decide")["env"]
    assert rendered.workload("decide")["kind"] == "StatefulSet"
    service = rendered.named("Service", "decide")["spec"]
    assert rendered.workload("decide")["spec"]["serviceName"] == "shop-decide"
    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= labels(rendered.workload("decide")).items()


def labels(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def test_selectors_meet_their_own_pods_only() -> None:
    """A Job's pod is no worker's. Break, tried: the component left out of `dejaview.selector`."""
    rendered = render()
    for stage in STAGES:
        selector = rendered.workload(stage)["spec"]["selector"]["matchLabels"]
        met = [one for one in [*STAGES, "topics"] if selector.items() <= labels(rendered.workload(one)).items()]
        assert met == [stage]


def test_pods_are_rolled_when_the_settings_change() -> None:
    """And only those of stages whose file changed. Break, tried: no checksum."""
    before = checksums({})
    assert checksums({}) == before
    every = checksums({"config": {"kafka": {"bootstrap_servers": "other:9092"}}})
    assert all(every[stage] != before[stage] for stage in STAGES)
    one = checksums({"decide": {"kafka": {"username": "judge"}}})
    assert [stage for stage in STAGES if one[stage] != before[stage]] == ["decide"]


def checksums(values: dict[str, Any]) -> dict[str, str]:
    rendered = render(values=values)
    return {
        stage: rendered.workload(stage)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for stage in STAGES
    }


def test_a_roll_out_makes_no_pod_too_many() -> None:
    """With as many pods as partitions one more would never be ready, and the roll-out would wait for it for ever."""
    for stage in ("encode", "index"):
        strategy = render().workload(stage)["spec"]["strategy"]
        assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert render().workload("decide")["spec"]["podManagementPolicy"] == "Parallel"


def test_topics_are_made_before_everything_else() -> None:
    """The Job is a hook and takes only what is a hook, too. Break, tried: the ConfigMap without annotations."""
    rendered = render("multi-tenant")
    job = rendered.workload("topics")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert rendered.container("topics")["args"][:2] == ["topics", "create"]
    hooks = {(one["kind"], one["metadata"]["name"]) for one in rendered.manifests if is_hook(one)}
    assert hooks == {("ConfigMap", "shop-topics"), ("Job", "shop-topics"), ("NetworkPolicy", "shop-topics")}
    weight = {
        one["kind"]: int(one["metadata"]["annotations"].get("helm.sh/hook-weight", 0))
        for one in rendered.manifests
        if is_hook(one)
    }
    assert weight["ConfigMap"] < weight["Job"]
    assert weight["NetworkPolicy"] < weight["Job"]
    assert "serviceAccountName" not in rendered.pod("topics")
    assert not [one for one in render(values={"topicsJob": {"enabled": False}}).manifests if is_hook(one)]


def is_hook(manifest: Manifest) -> bool:
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def test_gpus() -> None:
    """A GPU comes with its resource, its toleration and its runtime; the other stages get none."""
    rendered = render("gpu-production")
    assert rendered.container("encode")["resources"]["limits"]["nvidia.com/gpu"] == 1
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert taint in rendered.pod("encode")["tolerations"]
    assert rendered.pod("encode")["nodeSelector"]
    assert rendered.settings("encode")["model"]["runtime"] == "torch-cuda"
    assert rendered.container("encode")["image"] == "dejaview:0.1.0-gpu"
    for stage in ("decide", "index"):
        assert "nvidia.com/gpu" not in rendered.container(stage)["resources"]["limits"]
        assert "tolerations" not in rendered.pod(stage)
        assert rendered.container(stage)["image"] == "dejaview:0.1.0"


def test_images_name_no_registry() -> None:
    """The version is the program's; a digest wins. No file of the chart names a host that serves images."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert render().container("index")["image"] == f"dejaview:{chart['appVersion']}"
    digest = "sha256:" + "0" * 64
    image = {"repository": "mirror/dejaview", "digest": digest}
    assert render(values={"image": image}).container("decide")["image"] == f"mirror/dejaview@{digest}"


def test_environment_and_volumes_of_ones_own() -> None:
    """Every part that a stage's section offers arrives in its pod, and in no other's."""
    stage: dict[str, Any] = {
        "env": [{"name": "DEJAVIEW_MODEL__THREADS", "value": "2"}],
        "extraVolumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
        "extraVolumeMounts": [{"name": "weights", "mountPath": "/weights", "readOnly": True}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "only", "operator": "Equal", "value": "dejaview", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "high",
        "podLabels": {"team": "trust"},
        "podAnnotations": {"owner": "trust"},
    }
    rendered = render(values={"encode": stage})
    pod, container = rendered.pod("encode"), rendered.container("encode")
    assert stage["env"][0] in container["env"]
    assert stage["extraVolumes"][0] in pod["volumes"]
    assert stage["extraVolumeMounts"][0] in container["volumeMounts"]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[name] == stage[name], name
    metadata = rendered.workload("encode")["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == metadata["annotations"]["owner"] == "trust"
    others = [paths(rendered.workload(one)) for one in ("decide", "index", "topics")]
    assert not any("weights" in str(value) for found in others for _, value in found)
    spread = pod["topologySpreadConstraints"]
    assert spread[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "encode"
