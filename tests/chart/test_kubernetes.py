"""Helm's own check, and every manifest against the schemas of two versions of Kubernetes; a broken one is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.helm import CHART, EXAMPLES, KUBERNETES, Manifest, example_file, helm, render

# An old one that is still used and the newest that kubernetes-validate knows.
VERSIONS = ["1.31", "1.37"]
# Kinds of operators: their schemas are not Kubernetes's.
FOREIGN = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
EVERYTHING: dict[str, Any] = {
    "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboards")},
    "decide": {"hpa": {"enabled": True}},
    "encode": {"keda": {"enabled": True}},
}


@pytest.mark.parametrize("case", ["", *EXAMPLES])
def test_lint_is_silent(case: str) -> None:
    """Break, tried: a template that is not YAML."""
    files = ["--values", str(example_file(case))] if case else []
    ended = helm("lint", "--strict", str(CHART), *KUBERNETES, *files)
    assert ended.code == 0, ended.out + ended.err
    assert "[WARNING]" not in ended.out + ended.err


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["", *EXAMPLES, "everything"])
def test_kubernetes_takes_every_manifest(case: str, version: str) -> None:
    """Strictly: an unknown field is refused, too."""
    manifests = (render(values=EVERYTHING) if case == "everything" else render(case)).manifests
    own = [manifest for manifest in manifests if manifest["apiVersion"] not in FOREIGN]
    assert len(own) > 10
    for manifest in own:
        kubernetes_validate.validate(manifest, version, strict=True)


def rename_image(pod: Manifest) -> None:
    pod["containers"][0]["imagePullPolice"] = "Always"


def grace_as_text(pod: Manifest) -> None:
    pod["terminationGracePeriodSeconds"] = "35s"


def no_port(pod: Manifest) -> None:
    del pod["containers"][0]["livenessProbe"]["httpGet"]["port"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("broken", [rename_image, grace_as_text, no_port])
def test_a_broken_manifest_is_refused(broken: Callable[[Manifest], None], version: str) -> None:
    """Otherwise the test above proves nothing."""
    manifest = copy.deepcopy(render().workload("encode"))
    broken(manifest["spec"]["template"]["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("case", ["", *EXAMPLES])
def test_no_name_is_given_twice(case: str) -> None:
    """Of two objects with one name the second would replace the first."""
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in render(case).manifests]
    assert len(names) == len(set(names))


class NoRepeats(yaml.SafeLoader):
    """Refuses a mapping with a key twice, of which YAML's readers keep the last silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{keys} at {node.start_mark}"
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize("case", ["", *EXAMPLES])
def test_no_key_is_given_twice(case: str) -> None:
    """Break, tried: a second `labels`."""
    assert list(yaml.load_all(render(case).text, Loader=NoRepeats))
