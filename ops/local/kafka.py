"""Apache Kafka on this machine: one node in KRaft mode, one listener for clients, on loopback.

The jars come from Maven Central through `mvn`, into the cache folder, once.
"""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ops.local.cache import fetch_once
from ops.local.errors import LocalError
from ops.local.platforms import ensure_java
from ops.local.ports import LOOPBACK
from ops.local.server import Command, LocalServer

KAFKA_VERSION = "4.1.1"
SLF4J_VERSION = "1.7.36"
_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_FETCH_TIMEOUT_S = 900
_READY_LINE = "Kafka Server started"

_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
    ("org.slf4j", "slf4j-simple", SLF4J_VERSION),
)


class KafkaServer(LocalServer):
    """A broker with its controller in one process."""

    name = "kafka"
    inner_ports: ClassVar[Sequence[str]] = ("controller",)

    @property
    def bootstrap(self) -> str:
        """`bootstrap.servers` of clients."""
        return self.address

    def _prepare(self) -> Command:
        java = ensure_java()
        jars = fetch_jars()
        settings = self.data / "server.properties"
        settings.write_text(self._settings())
        # One compiler, the fast one: over its first minutes the other takes more time than its code saves (a tenth of
        # all that two cores do, in `dejaview bench`), and here a broker rarely gets older.
        start = [java, "-XX:TieredStopAtLevel=1", "-Xms256m", "-Xmx512m", "-cp", f"{jars}/*"]
        if not (self._logs / "meta.properties").exists():
            self._format([java, "-cp", f"{jars}/*"], settings)
        options = ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"]
        return Command([*start, *options, "kafka.Kafka", str(settings)])

    def _is_ready(self) -> bool:
        # The broker writes it once it is unfenced: an open port alone does not mean that topics can be created.
        return _READY_LINE in self.fresh_log()

    @property
    def _logs(self) -> Path:
        return self.data / "log-dirs"

    def _settings(self) -> str:
        controller = f"{LOOPBACK}:{self.ports['controller']}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._logs,
            # One node: nothing can be copied.
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Fewer internal partitions (50 by default): start and stop are faster.
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.num.partitions": 4,
            # Consumers need not wait for company.
            "group.initial.rebalance.delay.ms": 0,
            # An abandoned transaction ends a second after its time-out, not ten.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            # The largest image (20 MB) and its headers.
            "message.max.bytes": 22_000_000,
            "auto.create.topics.enable": "false",
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _format(self, java: list[str], settings: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # With "=": one id in 64 begins with a hyphen.
        arguments = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={settings}"]
        answer = subprocess.run(  # noqa: S603
            [*java, *arguments], capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise LocalError(f"Kafka's storage could not be formatted: {(answer.stderr or answer.stdout)[-1000:]}")


def fetch_jars() -> Path:
    """The folder with Kafka's jars (54 MB), downloaded if it is not in the cache.

    Raises:
        LocalError: Maven could not fetch them.
    """
    return fetch_once(f"kafka-{KAFKA_VERSION}", _download)


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dejaview-kafka-") as name:
        pom = Path(name) / "pom.xml"
        pom.write_text(_pom())
        # -C: a jar whose checksum is wrong is an error, not a warning.
        command = ["mvn", "-q", "-B", "-C", "-f", str(pom), f"{_DEPENDENCY_PLUGIN}:copy-dependencies"]
        try:
            answer = subprocess.run(  # noqa: S603
                [*command, f"-DoutputDirectory={folder}"],
                capture_output=True,
                text=True,
                check=False,
                timeout=_FETCH_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalError(f"Kafka's jars were not fetched in {_FETCH_TIMEOUT_S} s; is the network there?") from error
    if answer.returncode != 0 or not (folder / f"kafka_2.13-{KAFKA_VERSION}.jar").exists():
        raise LocalError(f"Maven could not fetch Kafka's jars: {answer.stdout.strip()[-1000:]}")


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in _DEPENDENCIES
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>dejaview</groupId>"
        "<artifactId>local-kafka</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
