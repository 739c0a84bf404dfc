"""Milvus standalone on this machine, from the Python package that carries the real server.

The package's own start script is not used: it searches ports by trying (two servers that start at
once collide), leaves etcd on its default ports, unpacks 250 MB into every data folder and dies before
its child. Here the server is unpacked once into the cache and started directly.

Milvus 2.3 listens on all addresses whatever it is told; only etcd inside it is bound to loopback.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from ops.local.ports import LOOPBACK
from ops.local.server import Command, LocalServer

MILVUS_VERSION = "2.3.5"
SESSION_TTL_S = 30
_GRACEFUL_STOP_S = 2
_FETCH_TIMEOUT_S = 900
_HEALTH_TIMEOUT_S = 2.0
_PARTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*([^}]*?))?\s*\}\}")


class MilvusServer(LocalServer):
    """Milvus with etcd, its log and its storage in one process.

    `session_ttl_s`: a server suspended for longer ends itself once it goes on; and after a restart
    collections can be searched only when the session of the previous run has expired.
    """

    name = "milvus"
    inner_ports: ClassVar = (
        "root_coord_port",
        "proxy_internal_port",
        "query_coord_port",
        "query_node_port",
        "index_coord_port",
        "index_node_port",
        "data_coord_port",
        "data_node_port",
        "etcd_port",
        "etcd_peer",
        "health",
    )

    def __init__(self, data: Path, port: int = 0, log: Path | None = None, session_ttl_s: int = SESSION_TTL_S) -> None:
        super().__init__(data, port, log)
        self.session_ttl_s = session_ttl_s

    @property
    def uri(self) -> str:
        """The address for clients."""
        return f"http://{self.address}"

    def _prepare(self) -> Command:
        package = fetch_package()
        configs = self.data / "configs"
        for folder in (configs, self.data / "logs", self.data / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        template = (package / "config.yaml.template").read_text()
        (configs / "milvus.yaml").write_text(yaml.safe_dump(self._settings(template)))
        (configs / "etcd.yaml").write_text(yaml.safe_dump(self._etcd_settings()))
        # Without this file the server exits and says nothing of it.
        shutil.copy(package / "glog.conf", configs)
        libraries = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self.ports["health"]),
            "MILVUSCONF": str(configs),
            "MILVUS_RUN_DIR": str(self.data / "run"),
            libraries: str(package),
        }
        return Command([str(package / "milvus"), "run", "standalone"], environment)

    def _is_ready(self) -> bool:
        address = f"http://{LOOPBACK}:{self.ports['health']}/healthz"
        try:
            with urllib.request.urlopen(address, timeout=_HEALTH_TIMEOUT_S) as answer:
                healthy: bool = answer.read().strip() == b"OK"
        except OSError:
            return False
        return healthy

    def _settings(self, template: str) -> dict[str, Any]:
        values = {
            **{name: str(port) for name, port in self.ports.items()},
            "proxy_port": str(self.port),
            "etcd_data_dir": str(self.data / "etcd"),
            "etcd_log_path": str(self.data / "logs" / "etcd.log"),
            "etcd_log_level": "warn",
            "local_storage_dir": str(self.data / "storage"),
            "rocksmq_data_dir": str(self.data / "rocksmq"),
            "system_log_path": "",
        }
        filled = _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(2) or ""), template)
        settings: dict[str, Any] = yaml.safe_load(filled)
        settings["etcd"]["config"] = {"path": str(self.data / "configs" / "etcd.yaml")}
        settings["log"]["level"] = "warn"
        settings["common"]["session"]["ttl"] = self.session_ttl_s
        # It waits for another node to take its segments over, and there is none.
        settings["common"]["gracefulStopTimeout"] = _GRACEFUL_STOP_S
        for part in _PARTS:
            # What the parts tell each other; else it is the address of the first network card.
            settings[part]["ip"] = LOOPBACK
        return settings

    def _etcd_settings(self) -> dict[str, Any]:
        client = f"http://{LOOPBACK}:{self.ports['etcd_port']}"
        peer = f"http://{LOOPBACK}:{self.ports['etcd_peer']}"
        return {
            "name": "default",
            "data-dir": str(self.data / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }


def fetch_package() -> Path:
    """The folder with the server, its libraries and its templates (250 MB), fetched if it is not in the cache.

    Raises:
        LocalError: there is no such package for this machine, or it could not be fetched.
    """
    return fetch_once(f"milvus-{MILVUS_VERSION}", _download)


def _download(folder: Path) -> None:
    unpacked = folder / "package"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:"]
    try:
        answer = subprocess.run(  # noqa: S603
            [*command, "--target", str(unpacked), f"milvus=={MILVUS_VERSION}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_FETCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalError(f"Milvus was not fetched in {_FETCH_TIMEOUT_S} s; is the network there?") from error
    if answer.returncode != 0:
        raise LocalError(_why_not_fetched(answer.stderr))
    data = unpacked / "milvus" / "data"
    for packed in (data / "bin").glob("*.lzma"):
        with lzma.open(packed) as source, (folder / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
        (folder / packed.stem).chmod(0o755)
    for name in ("config.yaml.template", "glog.conf"):
        shutil.copy(data / name, folder)
    shutil.rmtree(unpacked)


def _why_not_fetched(error: str) -> str:
    if "No module named pip" in error:
        return f"Milvus is fetched with pip, which this Python lacks: {sys.executable} -m ensurepip"
    if "No matching distribution" in error:
        return (
            f"there is no milvus=={MILVUS_VERSION} package for this system (or no network). Start Milvus in a "
            "container and set DEJAVIEW_INDEX__URI to its address."
        )
    return f"Milvus could not be fetched: {error.strip()[-1000:]}"
