"""A real API server takes every example, its upgrade and its end; and refuses the same with a field that is broken.

`make test-chart-apiserver`: the server takes many minutes to build, so `make test` leaves these out.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from ops.local.errors import LocalError
from tests.support import helm as support
from tests.support.apiserver import Answer, Apiserver, running
from tests.support.helm import CHART, EXAMPLES, RELEASE, Ended, Manifest, example_file, render
from tests.support.missing import is_missing

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(3600)]

PLURALS = {
    "ConfigMap": "configmaps",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "Job": "jobs",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "ServiceMonitor": "servicemonitors",
    "PrometheusRule": "prometheusrules",
    "ScaledObject": "scaledobjects",
    "TriggerAuthentication": "triggerauthentications",
    "Secret": "secrets",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    try:
        with running(tmp_path_factory.mktemp("apiserver")) as started:
            yield started
    except LocalError as error:
        is_missing(str(error))


def path_of(manifest: Manifest, namespace: str) -> str:
    version = manifest["apiVersion"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/{namespace}/{PLURALS[manifest['kind']]}"


def make_namespace(server: Apiserver, name: str) -> None:
    """One in which only restricted pods are let in."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert server.ask("POST", "/api/v1/namespaces", body).code == 201


@contextmanager
def jobs_finish(server: Apiserver, namespace: str) -> Iterator[None]:
    """Helm waits for the hook's Job, which nothing runs here."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.3):
            server.finish_jobs(namespace)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def run_helm(server: Apiserver, namespace: str, *arguments: str) -> Ended:
    os.environ["KUBECONFIG"] = str(server.kubeconfig)
    try:
        with jobs_finish(server, namespace):
            return support.helm(*arguments, "--namespace", namespace)
    finally:
        del os.environ["KUBECONFIG"]


def objects(server: Apiserver, namespace: str) -> set[tuple[str, str]]:
    """Kind and name of all that a release can make."""
    found = set()
    for manifest in everything():
        path = path_of(manifest, namespace)
        for item in server.ask("GET", path).body["items"]:
            found.add((manifest["kind"], item["metadata"]["name"]))
    return {one for one in found if one[1] != "kube-root-ca.crt"}


def everything() -> list[Manifest]:
    """One manifest of every kind."""
    values = {
        "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboards")},
        "decide": {"hpa": {"enabled": True}},
        "encode": {"keda": {"enabled": True}},
    }
    return list({one["kind"]: one for one in render(values=values).manifests}.values())


@pytest.mark.parametrize("case", EXAMPLES)
def test_install_upgrade_uninstall(server: Apiserver, case: str) -> None:
    """Everything that is rendered is there, changes with the values, and is gone in the end, the hook's objects too.

    Break, tried: what the hook made is not deleted.
    """
    make_namespace(server, case)
    files = ["--values", str(example_file(case))]
    installed = run_helm(server, case, "install", RELEASE, str(CHART), *files)
    assert installed.code == 0, installed.err
    assert "dejaview doctor" in installed.out
    wanted = {
        (one["kind"], one["metadata"]["name"])
        for one in render(case).manifests
        if "helm.sh/hook" not in one["metadata"].get("annotations", {})
    }
    assert objects(server, case) == wanted
    upgraded = run_helm(server, case, "upgrade", RELEASE, str(CHART), *files, "--set", "config.drain_s=100")
    assert upgraded.code == 0, upgraded.err
    for stage, kind in (("encode", "deployments"), ("decide", "statefulsets"), ("index", "deployments")):
        now = server.ask("GET", f"/apis/apps/v1/namespaces/{case}/{kind}/{RELEASE}-{stage}").body
        assert now["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 115
    removed = run_helm(server, case, "uninstall", RELEASE)
    assert removed.code == 0, removed.err
    assert objects(server, case) == set()


@pytest.fixture(scope="module")
def namespace(server: Apiserver) -> str:
    make_namespace(server, "trials")
    return "trials"


def create(server: Apiserver, manifest: Manifest, namespace: str) -> Answer:
    """What the server would say to this object; nothing is kept."""
    body = copy.deepcopy(manifest)
    body["metadata"].pop("namespace", None)
    return server.ask("POST", f"{path_of(body, namespace)}?dryRun=All&fieldValidation=Strict", body)


BROKEN: list[tuple[str, str, Any]] = [
    ("Deployment", "spec.strategy.rollingUpdate.maxUnavailable", 0),
    ("Deployment", "spec.template.spec.terminationGracePeriod", 35),
    ("Deployment", "spec.template.spec.containers.0.livenessProbe.httpGet.port", "no such port!"),
    ("Deployment", "spec.selector.matchLabels.other", "label"),
    ("StatefulSet", "spec.podManagementPolicy", "Sometimes"),
    ("Job", "spec.template.spec.restartPolicy", "Always"),
    ("Service", "spec.ports.0.port", 70000),
    ("ConfigMap", "data.dejaview/yaml", "text"),
    ("ServiceAccount", "metadata.name", "Not_A_Name"),
    ("PodDisruptionBudget", "spec.minAvailable", 1),
    ("NetworkPolicy", "spec.policyTypes", ["Both"]),
    ("HorizontalPodAutoscaler", "spec.minReplicas", 100),
    ("ScaledObject", "spec.maxReplicaCount", "many"),
    ("ServiceMonitor", "spec.endpoints.0.interval", "15"),
]


def test_every_kind_is_taken(server: Apiserver, namespace: str) -> None:
    """As it is rendered, before a field of it is broken."""
    for manifest in everything():
        answer = create(server, manifest, namespace)
        assert answer.code == 201, (manifest["kind"], answer.message)


def test_the_login_of_keda_is_taken(server: Apiserver, namespace: str) -> None:
    """The example for it is what KEDA's CRD allows."""
    for manifest in yaml.safe_load_all((CHART / "examples" / "operators" / "keda.yaml").read_text()):
        answer = create(server, manifest, namespace)
        assert answer.code == 201, answer.message


@pytest.mark.parametrize(("kind", "place", "value"), BROKEN, ids=[f"{kind}-{place}" for kind, place, _ in BROKEN])
def test_a_broken_field_is_refused(server: Apiserver, namespace: str, kind: str, place: str, value: Any) -> None:
    (manifest,) = [one for one in everything() if one["kind"] == kind]
    broken = copy.deepcopy(manifest)
    put(broken, place, value)
    answer = create(server, broken, namespace)
    assert answer.code in {400, 422}, answer


def put(manifest: Any, place: str, value: Any) -> None:
    """`spec.ports.0.port`: a number is a place in a list."""
    *parents, last = place.split(".")
    for part in parents:
        manifest = manifest[int(part)] if part.isdigit() else manifest[part]
    manifest[last] = value


def pod_of(stage: str, case: str) -> Manifest:
    template = copy.deepcopy(render(case).workload(stage)["spec"]["template"])
    metadata = {**template["metadata"], "name": stage}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def root_user(spec: Manifest) -> None:
    spec["securityContext"]["runAsNonRoot"] = False


def test_the_jobs_pod_is_let_in(server: Apiserver, namespace: str) -> None:
    answer = server.ask("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod_of("topics", "multi-tenant"))
    assert answer.code == 201, answer.message


def more_rights(spec: Manifest) -> None:
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True


def capabilities(spec: Manifest) -> None:
    del spec["containers"][0]["securityContext"]["capabilities"]


def any_syscall(spec: Manifest) -> None:
    del spec["securityContext"]["seccompProfile"]


@pytest.mark.parametrize("case", EXAMPLES)
@pytest.mark.parametrize("stage", ["encode", "decide", "index"])
def test_restricted_namespaces_let_the_pods_in(server: Apiserver, namespace: str, stage: str, case: str) -> None:
    """The server's own judgement on the pod security standard, and on a pod that keeps to less."""
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
    let_in = server.ask("POST", path, pod_of(stage, case))
    assert let_in.code == 201, let_in.message
    breaks: list[Callable[[Manifest], None]] = [root_user, more_rights, capabilities, any_syscall]
    for break_it in breaks:
        pod = pod_of(stage, case)
        break_it(pod["spec"])
        refused = server.ask("POST", path, pod)
        assert refused.code == 403, break_it
        assert "violates PodSecurity" in refused.message
