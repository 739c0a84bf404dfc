"""The Dockerfile, compose.yaml and the workflows name what is there, and pass the checkers made for them.

Whether the Dockerfile's commands work is shown by `make test-image`.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli.main import COMMANDS
from ops.cli.settings import load_settings
from stream.config import Settings
from stream.service import Stage
from tests.support.dockerfile import DOCKERFILE, ROOT, config, stages
from tests.support.programs import run_program

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
TARGETS = ("cpu", "gpu")


def settings_of(service: str) -> Settings:
    """As the program reads them in the container."""
    environment = {**config("cpu").env, **SERVICES[service]["environment"]}
    return load_settings(None, [], environment).settings


def mounts() -> Iterator[tuple[str, Path, str]]:
    """Service, path of this checkout, path in the container."""
    for name, service in SERVICES.items():
        for line in service.get("volumes", []):
            source, target = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", line).split(":")[:2]
            if source.startswith("."):
                yield name, ROOT / source, target


def test_hadolint_finds_nothing() -> None:
    """Break, tried: `apt-get install` without `--no-install-recommends`."""
    ended = run_program("hadolint", ["--no-color", str(DOCKERFILE)], ROOT)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_not_roots(target: str) -> None:
    """A number, so that Kubernetes sees that it is not 0; what may be written is in /tmp. Break, tried: no USER."""
    image = config(target)
    user, group = (int(part) for part in image.user.split(":"))
    assert min(user, group) >= 10_000
    assert image.folder == image.env["HOME"] == "/tmp"
    assert image.env["DEJAVIEW_CACHE"].startswith("/tmp/")
    assert image.entrypoint == ["dejaview"]
    assert image.command[0] in COMMANDS
    assert image.labels["org.opencontainers.image.version"] == version()


@pytest.mark.parametrize("target", TARGETS)
def test_an_images_settings_and_health_check_agree(target: str) -> None:
    """Health is asked where it is served, and served to the outside. Break, tried: another port in EXPOSE."""
    image = config(target)
    settings = load_settings(None, [], image.env).settings
    assert settings.health.host == "0.0.0.0"  # noqa: S104 - in a container
    assert image.ports == [settings.health.port]
    assert f"http://127.0.0.1:{settings.health.port}/livez" in image.health[-1]


def test_the_image_for_cpus_has_no_torch() -> None:
    """Nor the index and the photographs of the demo. Break, tried: the extra `torch` in EXTRAS."""
    extras = config("cpu-packages").args["EXTRAS"].split()
    packages = {re.split(r"[<>=\[]", line)[0] for line in requirements(*extras)}
    assert {"openvino", "pymilvus", "boto3"} <= packages
    assert not {"torch", "torchvision", "milvus-lite", "scikit-image", "cyclonedx-bom"} & packages
    assert "torch==2.13.0" in requirements(*config("gpu-packages").args["GPU_EXTRAS"].split())


def requirements(*arguments: str) -> list[str]:
    script = ROOT / "container" / "requirements.py"
    ended = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_requirements_are_the_projects() -> None:
    """All of them, of extras within extras as well; an extra that there is not is refused."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert requirements() == project["dependencies"]
    assert set(project["optional-dependencies"]["embedded"]) < set(requirements("demo"))
    assert not any(line.startswith("dejaview") for line in requirements("dev"))
    with pytest.raises(AssertionError, match="no extra 'none'"):
        requirements("none")


def test_what_is_copied_is_sent_to_the_build() -> None:
    """`.dockerignore` lets through what COPY names, and nothing else. Break, tried: a line of either left out."""
    copied = {
        source
        for stage in stages().values()
        for one in stage.instructions
        if one.name == "COPY" and not one.flags
        for source in one.text.split()[:-1]
    }
    copied = {f"{path}requirements.py" if path.endswith("/") else path for path in copied}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == sent
    assert all((ROOT / path).exists() for path in sent)


def test_compose_is_valid() -> None:
    """By the specification's schema. Break, tried: `port:`."""
    ended = run_program("check-jsonschema", ["--builtin-schema", "vendor.compose-spec", "compose.yaml"], ROOT)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("service", OURS)
def test_compose_names_settings_and_commands_that_exist(service: str) -> None:
    """Settings are loaded, and refused when one is unknown. Breaks, tried: a setting or a stage misspelt."""
    settings = settings_of(service)
    assert settings.kafka.bootstrap_servers.partition(":")[0] in SERVICES
    assert settings.index.uri.split("/")[-1].partition(":")[0] in SERVICES
    command = OURS[service]["command"]
    assert command[0] in COMMANDS
    if command[0] == "run":
        assert command == ["run", "--stage", service]
        assert Stage(service)
    grace_s = int(OURS[service]["stop_grace_period"].removesuffix("s"))
    assert grace_s >= settings.drain_s + 10
    assert OURS[service]["read_only"] is True
    assert OURS[service]["build"]["target"] in stages()
    assert OURS[service]["image"] == f"dejaview:${{DEJAVIEW_TAG:-{version()}}}"


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_all_stages_run() -> None:
    assert {name for name, one in OURS.items() if one["command"][0] == "run"} == {str(stage) for stage in Stage}


def test_mounted_files_exist() -> None:
    """Docker makes a folder of what is not there. Break, tried: a file renamed."""
    found = list(mounts())
    assert len(found) > len(OURS)
    assert [source for _, source, _ in found if not source.exists()] == []
    lines = [line for one in SERVICES.values() for line in one.get("volumes", [])]
    volumes = {line.partition(":")[0] for line in lines if line[0] not in "./$"}
    assert volumes == set(COMPOSE["volumes"])


def test_compose_is_open_to_this_machine_alone() -> None:
    """Nothing there has a password. Break, tried: a port without its address."""
    ports = [port for one in SERVICES.values() for port in one.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_and_grafana_have_the_charts_files() -> None:
    """Its rules and dashboards themselves, no copies; every stage is scraped. Break, tried: a stage left out."""
    files = ROOT / "charts" / "dejaview" / "files"
    by_target = {(name, target): source for name, source, target in mounts()}
    assert by_target["prometheus", "/etc/prometheus/rules"] == files / "rules"
    scraped = yaml.safe_load(by_target["prometheus", "/etc/prometheus/prometheus.yml"].read_text())
    assert scraped["rule_files"] == ["rules/*.yaml"]
    ((job,),) = [one["dns_sd_configs"] for one in scraped["scrape_configs"]]
    assert set(job["names"]) == {str(stage) for stage in Stage}
    assert [job["port"]] == config("cpu").ports
    (provider,) = yaml.safe_load((ROOT / "container/grafana/dashboards/dejaview.yaml").read_text())["providers"]
    assert by_target["grafana", provider["options"]["path"]] == files / "dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (files / "dashboards" / Path(home).name).exists()
    (source,) = yaml.safe_load((ROOT / "container/grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"].split("/")[-1].partition(":")[0] in SERVICES


def test_no_image_names_a_registry() -> None:
    """The engine's default, or the mirror it is set to. Break, tried: a host before a name."""
    images = [one["image"] for one in SERVICES.values()] + [stage.base for stage in stages().values()]
    assert all(not re.search(r"[.:]", name.partition("/")[0]) for name in images if "/" in name)
    # A name without a colon is another stage.
    assert all(":" in name or name in stages() for name in images)


def test_workflows_are_valid() -> None:
    """By their schema, and zizmor's rules for what is safe. Breaks, tried: `run-on:`; `${{ github.ref }}` in `run`."""
    assert len(WORKFLOWS) > 1
    files = [str(path) for path in WORKFLOWS]
    ended = run_program("check-jsonschema", ["--builtin-schema", "vendor.github-workflows", *files], ROOT)
    assert ended.returncode == 0, ended.stdout
    ended = run_program("zizmor", ["--offline", "--no-progress", *files], ROOT)
    assert ended.returncode == 0, ended.stdout


def test_workflows_name_what_is_there() -> None:
    """Scripts, targets and versions. Break, tried: `.ci/runs`."""
    text = "".join(path.read_text() for path in WORKFLOWS)
    scripts = set(re.findall(r"(?<![\w/.])(\.ci/[\w.-]+|charts/[\w/]+)", text))
    assert {".ci/run", ".ci/release.py"} <= scripts
    assert all((ROOT / script).exists() for script in scripts)
    (matrix,) = re.findall(r"target: \[([\w, ]+)\]", text)
    assert tuple(matrix.split(", ")) == TARGETS
    assert re.findall(r"for target in ([\w ]+);", text) == [" ".join(TARGETS)]


def test_a_release_has_one_version_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """Breaks, each tried: another version in Chart.yaml; no section in the changes."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    assert release.main([]) == 0
    assert "## " not in capsys.readouterr().out
    assert release.main(["99.0.0"]) == 1
    said = capsys.readouterr().err
    assert [line.split()[0] for line in said.splitlines()] == [*release.PLACES, "pyproject.toml", "CHANGELOG.md"]
    assert release.notes("# Changes\n\n## 1.1.0\n\nNew.\n\n## 1.0.0 (May)\n\nOld.\n", "1.1.0") == "New."
    assert release.notes("## 1.1.0\nNew.\n## 1.0.0 (May)\n\nOld.\n", "1.0.0") == "Old."
