"""Prometheus takes the configuration that compose.yaml gives it, with the chart's rules where it looks for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from ops.local.errors import LocalError
from tests.support.dockerfile import ROOT
from tests.support.missing import is_missing
from tests.support.prometheus import program


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """Laid out as in the container. Break, tried: `rule_file`."""
    try:
        promtool = program("promtool")
    except LocalError as error:
        is_missing(str(error))
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["prometheus"]
    for source, target in (line.split(":")[:2] for line in service["volumes"]):
        if source.startswith("."):
            to = tmp_path / target.removeprefix("/etc/prometheus/")
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, to)
    command = [promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 rule files found" in ended.stdout
