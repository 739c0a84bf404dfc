"""What the chart asks of an image is what the Dockerfile makes."""

from __future__ import annotations

import tomllib
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from ops.cli.main import COMMANDS
from tests.support.dockerfile import ROOT, config
from tests.support.helm import CHART, render

TARGETS = ["cpu", "gpu"]
STAGES = ["encode", "decide", "index"]


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stage", [*STAGES, "topics"])
def test_user_and_command(target: str, stage: str) -> None:
    """The user that the pod runs as is the image's, and the entry point what the pod calls. Breaks, each tried: another
    UID in the Dockerfile; `command: [python]` in `_pod.tpl`.
    """
    image, pod, container = config(target), render().pod(stage), render().container(stage)
    context = pod["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image.user
    assert container["command"] == image.entrypoint
    assert container["args"][0] in COMMANDS


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_written_is_in_the_one_writable_folder(target: str) -> None:
    """Home, cache and working folder of image and pod are the same, in /tmp. Break, tried: the pod's HOME in /home."""
    image = config(target)
    for stage in STAGES:
        container = render().container(stage)
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        env = env_of(container)
        assert env["HOME"] == image.env["HOME"]
        assert env["DEJAVIEW_CACHE"] == image.env["DEJAVIEW_CACHE"]
        for path in (env["HOME"], env["DEJAVIEW_CACHE"], image.folder):
            assert any(PurePosixPath(path).is_relative_to(folder) for folder in writable), path
        # Nothing of the image is hidden by what is mounted.
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert not any(path.startswith("/opt") for path in mounted)


@pytest.mark.parametrize("target", TARGETS)
def test_port_and_health(target: str) -> None:
    """The port is announced by both, the health check asks what the kubelet asks. Break, tried: /readyz there."""
    image = config(target)
    for stage in STAGES:
        container = render().container(stage)
        (port,) = container["ports"]
        assert image.ports == [port["containerPort"]]
        asked = container["livenessProbe"]["httpGet"]
        assert asked["port"] == port["name"]
        assert f":{port['containerPort']}{asked['path']}'" in image.health[-1]
        assert render().settings(stage)["health"]["host"] == image.env["DEJAVIEW_HEALTH__HOST"]


def test_the_image_for_gpus_has_what_the_example_names() -> None:
    """`torch-cuda` needs torch, `tensorrt` a package more. Break, tried: `tensorrt` in the example."""
    runtime = render("gpu-production").settings("encode")["model"]["runtime"]
    build = config("gpu-packages").args
    assert "torch" in build["GPU_EXTRAS"].split()
    assert runtime == "torch-cuda" or "tensorrt" in build["GPU_PACKAGES"]


def test_the_default_tag_is_the_releases() -> None:
    """Chart, program and image label have one version. Break, tried: another in Chart.yaml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    assert render().container("encode")["image"].endswith(f":{version}")
    assert config("cpu").labels["org.opencontainers.image.version"] == version
