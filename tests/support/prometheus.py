"""Prometheus and promtool: the machine's, else what Debian's package holds, unpacked and not installed.

`python -m tests.support.prometheus` fetches it, so that no test waits for that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from ops.local.ports import free_port
from tests.support.picture import Series

_COMMANDS = (["apt-get", "download", "-qq", "prometheus"], ["sh", "-c", "dpkg -x prometheus_*.deb . && rm *.deb"])


@cache
def program(name: str) -> str:
    """The path of `prometheus` or `promtool`.

    Raises:
        LocalError: there is none, and this is no Debian or nothing can be fetched.
    """
    own = shutil.which(name)
    return own or str(fetch_once("prometheus", _unpack) / "usr" / "bin" / name)


def _unpack(folder: Path) -> None:
    """Installing it would start it, too."""
    # A container's image has no lists of packages.
    update = [["apt-get", "update", "-qq"]] if os.geteuid() == 0 else []
    for command in (*update, *_COMMANDS):
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise LocalError(f"there is no Prometheus here: install it ({error})") from error
        if ended.returncode != 0:
            raise LocalError(
                f"there is no Prometheus here, and {' '.join(command)} says: {ended.stderr or ended.stdout}"
            )


_WINDOW = re.compile(r"(?<=\[)(\d+)([mhd])(?=\])")
_WAIT = re.compile(r"(?<=for: )(\d+)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
# Thirty times as fast; a window holds some scrapes at least.
FASTER = 30
WINDOW_MIN_S = 10


def shortened(rules: str, stale_s: int, stale_now_s: int) -> str:
    """Rules with windows and waiting times thirty times as short, and uploads that wait sooner for too long."""
    shorter = _WINDOW.sub(lambda found: f"{max(WINDOW_MIN_S, _faster_s(found))}s", rules)
    shorter = _WAIT.sub(lambda found: f"{_faster_s(found)}s", shorter)
    return shorter.replace(f"> bool {stale_s}", f"> bool {stale_now_s}")


def without_variables(expr: str, rate_interval: str) -> str:
    """A panel's query with values for Grafana's variables."""
    for variable, value in {"$namespace": "test", "$job": ".*", "$__rate_interval": rate_interval}.items():
        expr = expr.replace(variable, value)
    return expr


def _faster_s(found: re.Match[str]) -> int:
    return int(found[1]) * _SECONDS[found[2]] // FASTER


@dataclass
class Prometheus:
    """A Prometheus on loopback that reads workers every second, by these rule files."""

    folder: Path
    workers: Sequence[int]
    rules: Sequence[Path]
    port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        labels = {"namespace": "test"}
        targets = [f"127.0.0.1:{port}" for port in self.workers]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in self.rules],
            "scrape_configs": [
                {"job_name": "dejaview", "static_configs": [{"targets": targets, "labels": labels}]},
            ],
        }
        file = self.folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        log = (self.folder / "prometheus.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log, cwd=self.folder
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; None while it starts.

        Raises:
            AssertionError: it refuses a query.
        """
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            with error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        except (OSError, HTTPException):
            assert self._process.poll() is None, (self.folder / "prometheus.log").read_text()
        return None

    def alerts(self) -> dict[tuple[str, str], str]:
        """Alert and severity -> pending or firing, the most of its series."""
        found = (self.get("alerts") or {}).get("alerts", [])
        states = sorted(((one["labels"]["alertname"], one["labels"]["severity"]), one["state"]) for one in found)
        return dict(sorted(states, key=lambda pair: pair[1] == "firing"))

    def query(self, expr: str) -> list[float]:
        """The values of a query now."""
        return [float(one["value"][1]) for one in (self.get("query", query=expr) or {}).get("result", [])]

    def history(self, expr: str, start_s: float, end_s: float, step_s: float) -> Series:
        """The values of a query over a time, without those that are no number."""
        answer = self.get("query_range", query=expr, start=str(start_s), end=str(end_s), step=str(step_s))
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"] if value != "NaN"])
            for one in (answer or {}).get("result", [])
        ]


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{program('promtool')}\n")
    except LocalError as error:
        sys.exit(str(error))
