"""Helm, and the chart rendered by it. `python -m tests.support.helm` fetches it, so that no test waits for that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from tests.support.go import run_go

HELM = "3.22.0"
CHART = Path(__file__).parents[2] / "charts" / "dejaview"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
RELEASE, NAMESPACE = "shop", "uploads"
# Built by `go install`, Helm knows no version of Kubernetes and takes 1.20.
KUBERNETES = ("--kube-version", "1.34.0")

Manifest = dict[str, Any]


@cache
def helm_program() -> Path:
    """Helm, built if this machine has never built it.

    Raises:
        LocalError: it cannot be built.
    """
    return fetch_once(f"helm-{HELM}", _build) / "helm"


def _build(folder: Path) -> None:
    run_go(["install", "-ldflags=-s -w", f"helm.sh/helm/v3/cmd/helm@v{HELM}"], folder, GOBIN=str(folder))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of Helm ended."""

    code: int
    out: str
    err: str


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> Ended:
    """Run Helm; `values` go to it as a file, on its standard input."""
    given = ["--values", "-"] if values is not None else []
    ended = subprocess.run(
        [str(helm_program()), *arguments, *given],
        input=yaml.safe_dump(values) if values is not None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def example_file(name: str) -> Path:
    return CHART / "examples" / f"{name}.yaml"


def render(example: str = "", values: Mapping[str, Any] | None = None, chart: Path = CHART) -> Rendered:
    """The manifests of an example (the defaults if not named) with some values changed.

    Raises:
        AssertionError: Helm refuses them.
    """
    files = ["--values", str(example_file(example))] if example else []
    ended = helm("template", RELEASE, str(chart), "--namespace", NAMESPACE, *KUBERNETES, *files, values=values)
    assert ended.code == 0, ended.err
    return Rendered([found for found in yaml.safe_load_all(ended.out) if found], ended.out)


def refusal(values: Mapping[str, Any], example: str = "") -> str:
    """What Helm says to values that it must refuse."""
    files = ["--values", str(example_file(example))] if example else []
    ended = helm("template", RELEASE, str(CHART), *KUBERNETES, *files, values=values)
    assert ended.code != 0, "these values were taken"
    return ended.err


@dataclass(frozen=True, slots=True)
class Rendered:
    """Manifests, and the text that they were read from."""

    manifests: list[Manifest]
    text: str

    def named(self, kind: str, name: str = "") -> Manifest:
        """The one of this kind (`encode` for `shop-encode`)."""
        wanted = f"{RELEASE}-{name}" if name else RELEASE
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == wanted]
        return found

    def of(self, kind: str) -> list[Manifest]:
        return [each for each in self.manifests if each["kind"] == kind]

    def workload(self, stage: str) -> Manifest:
        kinds = {"decide": "StatefulSet", "topics": "Job"}
        return self.named(kinds.get(stage, "Deployment"), stage)

    def pod(self, stage: str) -> Manifest:
        """The pod's spec."""
        spec: Manifest = self.workload(stage)["spec"]["template"]["spec"]
        return spec

    def container(self, stage: str) -> Manifest:
        (found,) = self.pod(stage)["containers"]
        return dict(found)

    def settings(self, stage: str) -> dict[str, Any]:
        """The settings file in a stage's ConfigMap."""
        text = self.named("ConfigMap", stage)["data"]["dejaview.yaml"]
        return dict(yaml.safe_load(text))


def paths(value: Any, prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Every scalar of a manifest with its place."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in paths(inner, f"{prefix}.{key}")]
    if isinstance(value, list):
        return [found for n, inner in enumerate(value) for found in paths(inner, f"{prefix}[{n}]")]
    return [(prefix, value)]


def main() -> int:
    """Exit status: 0 when Helm is there."""
    try:
        print(helm_program())  # noqa: T201 - a command
    except LocalError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
