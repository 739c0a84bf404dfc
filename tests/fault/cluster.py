"""Kafka and Milvus of a fault test's own, each also reachable through a proxy that can misbehave."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.ports import LOOPBACK, free_ports
from ops.local.server import LocalServer
from tests.support.deployment import Deployment
from tests.support.proxy import Mode, Proxy

# Below the product's 10 s: a killed worker's partitions move sooner, and the tests take less time.
SESSION_TIMEOUT_S = 6.0
# After a restart Milvus refuses searches for about so long.
MILVUS_SESSION_TTL_S = 10


class ProxiedKafka(KafkaServer):
    """A broker with a second listener, whose advertised address is a proxy's."""

    inner_ports: ClassVar[Sequence[str]] = ("controller", "proxied")

    def __init__(self, data: Path, proxy_port: int) -> None:
        super().__init__(data)
        self.proxy_port = proxy_port

    def _settings(self) -> str:
        lines = dict(line.split("=", 1) for line in super()._settings().splitlines())
        lines["listeners"] += f",PROXIED://{LOOPBACK}:{self.ports['proxied']}"
        lines["advertised.listeners"] += f",PROXIED://{LOOPBACK}:{self.proxy_port}"
        lines["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
        lines["inter.broker.listener.name"] = "PLAINTEXT"
        lines["group.min.session.timeout.ms"] = "1000"
        return "".join(f"{name}={value}\n" for name, value in lines.items())


class Cluster:
    """The servers and their proxies. Workers go through the proxies, the tests themselves do not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        kafka_port, milvus_port = free_ports(2)
        self.kafka = ProxiedKafka(folder / "kafka", kafka_port)
        self.milvus = MilvusServer(folder / "milvus", session_ttl_s=MILVUS_SESSION_TTL_S)
        # The servers choose ports of their own when they start.
        self.proxies = {"kafka": Proxy(kafka_port, 0), "milvus": Proxy(milvus_port, 0)}
        for proxy in self.proxies.values():
            proxy.listen()

    def start(self) -> None:
        self.kafka.start()
        self.milvus.start()
        self.proxies["kafka"].target_port = self.kafka.ports["proxied"]
        self.proxies["milvus"].target_port = self.milvus.port
        for proxy in self.proxies.values():
            proxy.start()

    def heal(self) -> None:
        """Everything runs and passes bytes on."""
        for proxy in self.proxies.values():
            proxy.mode = Mode.PASS
        for server in (self.kafka, self.milvus):
            server.start()

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()
        for server in (self.kafka, self.milvus):
            if server.running:
                server.resume()
            server.kill()

    def deployment(self, folder: Path, partitions: int, **values: Any) -> Deployment:
        """A deployment whose workers see the servers through the proxies."""
        folder.mkdir(parents=True, exist_ok=True)
        values.setdefault("kafka", {}).setdefault("session_timeout_s", SESSION_TIMEOUT_S)
        made = Deployment.create(folder, self.kafka.bootstrap, self.milvus.uri, partitions, **values)
        kafka_port, milvus_port = (self.proxies[name].port for name in ("kafka", "milvus"))
        made.worker_values = {
            "kafka": {"bootstrap_servers": f"{LOOPBACK}:{kafka_port}"},
            "index": {"uri": f"http://{LOOPBACK}:{milvus_port}", "timeout_s": 5.0, "retry_wait_max_s": 1.0},
        }
        return made

    def resume(self, server: LocalServer) -> None:
        """A suspended server goes on. Milvus may end itself any time in the half minute after, when its session has
        expired meanwhile: it is killed and started again at once, as whoever supervises it would.
        """
        server.resume()
        if server is self.milvus:
            server.kill()
            server.start()

    def copy_milvus(self) -> None:
        """Keep a copy of Milvus's data; it is stopped for that."""
        self.milvus.stop()
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self.milvus.data, self._backup, ignore=shutil.ignore_patterns("*.log", "run"))
        self.milvus.start()

    def restore_milvus(self) -> None:
        """Put the copy back in the place of the data."""
        self.milvus.kill()
        self._clear_milvus()
        shutil.copytree(self._backup, self.milvus.data, dirs_exist_ok=True)
        self.milvus.start()

    def empty_milvus(self) -> None:
        """Milvus comes back with an empty disk."""
        self.milvus.kill()
        self._clear_milvus()
        self.milvus.start()

    @property
    def _backup(self) -> Path:
        return self._folder / "milvus-copy"

    def _clear_milvus(self) -> None:
        for name in ("etcd", "storage", "rocksmq", "run"):
            shutil.rmtree(self.milvus.data / name, ignore_errors=True)
