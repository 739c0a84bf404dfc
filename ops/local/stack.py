"""Kafka and Milvus side by side, started by one command and ended by another.

`state.json` in the data folder remembers what runs: pid, start time, port, log.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.platforms import refuse_windows
from ops.local.ports import free_port, is_free
from ops.local.process import Process
from ops.local.server import LocalServer

KAFKA_PORT = 9092
MILVUS_PORT = 19530
_STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """What clients need."""

    bootstrap: str
    milvus_uri: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the state file says of one server."""

    pid: int
    started: str
    port: int
    log: str

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One line of `dejaview local status`."""

    name: str
    running: bool
    address: str
    pid: int
    log: str


class LocalStack:
    """Both servers with their data under `data`."""

    def __init__(self, data: Path) -> None:
        refuse_windows()
        self.data = data.absolute()

    def up(self, kafka_port: int | None = None, milvus_port: int | None = None) -> Addresses:
        """Start what does not run. Without a port: the last one, else the usual one, else a free one.

        Raises:
            LocalError: a named port is taken, or a server does not start.
        """
        with self._locked():
            state = self._read()
            kafka = KafkaServer(self.data / "kafka", log=self.data / "logs" / "kafka.log")
            milvus = MilvusServer(self.data / "milvus", log=self.data / "logs" / "milvus.log")
            self._bring_up(kafka, state, kafka_port, KAFKA_PORT)
            self._bring_up(milvus, state, milvus_port, MILVUS_PORT)
            return Addresses(kafka.bootstrap, milvus.uri)

    def down(self) -> list[str]:
        """End what this stack started; returns the names of the servers that were running."""
        with self._locked():
            state = self._read()
            servers = [server for server in self._servers(state) if server.running]
            for server in servers:
                server.stop()
            return [server.name for server in servers]

    def status(self) -> list[ServerStatus]:
        """What the state file knows, and whether it still runs."""
        return [
            ServerStatus(name, entry.process.alive, f"127.0.0.1:{entry.port}", entry.pid, entry.log)
            for name, entry in self._read().items()
        ]

    def _bring_up(self, server: LocalServer, state: dict[str, ServerState], port: int | None, usual_port: int) -> None:
        entry = state.get(server.name)
        if entry is not None and entry.process.alive:
            server.port, server.process = entry.port, entry.process
            return
        server.port = port or _choose(entry.port if entry is not None else usual_port, usual_port)
        server.start()
        assert server.process is not None  # noqa: S101 - start() returned
        state[server.name] = ServerState(server.process.pid, server.process.started, server.port, str(server.log))
        self._write(state)

    def _servers(self, state: dict[str, ServerState]) -> Iterator[LocalServer]:
        for kind in (KafkaServer, MilvusServer):
            entry = state.get(kind.name)
            if entry is None:
                continue
            server: LocalServer = kind(self.data / kind.name, entry.port, Path(entry.log))
            server.process = entry.process
            yield server

    @property
    def _state_file(self) -> Path:
        return self.data / "state.json"

    def _read(self) -> dict[str, ServerState]:
        if not self._state_file.exists():
            return {}
        content = json.loads(self._state_file.read_text())
        return {name: ServerState(**entry) for name, entry in content["servers"].items()}

    def _write(self, state: dict[str, ServerState]) -> None:
        content = {"version": _STATE_VERSION, "servers": {name: asdict(entry) for name, entry in state.items()}}
        unfinished = self._state_file.with_suffix(".new")
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(self._state_file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _choose(wanted: int, usual: int) -> int:
    for port in (wanted, usual):
        if is_free(port):
            return port
    return free_port()
