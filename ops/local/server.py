"""What Kafka and Milvus have in common: start, wait until ready, stop, suspend, kill.

A stopped or killed server starts again on the same ports with the same data.
"""

from __future__ import annotations

import json
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ops.local.errors import LocalError
from ops.local.ports import LOOPBACK, free_ports, is_free
from ops.local.process import Process, spawn

_POLL_S = 0.1
_LOG_LINES = 15
_LOG_TAIL_BYTES = 64_000
_LOG_LINE_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class LocalServer(ABC):
    """A server on this machine; `data` is its own folder, `port` the one clients use (0: a free one)."""

    name: ClassVar[str]
    inner_ports: ClassVar[Sequence[str]]
    start_timeout_s: ClassVar[float] = 120.0
    stop_timeout_s: ClassVar[float] = 30.0

    def __init__(self, data: Path, port: int = 0, log: Path | None = None) -> None:
        self.data = data.absolute()
        self.log = (log or self.data / f"{self.name}.log").absolute()
        self.port = port
        self.ports: dict[str, int] = {}
        self.process: Process | None = None
        self._log_start = 0

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start and return when the server answers. Already running: nothing happens.

        Raises:
            LocalError: a port is taken, the server ended, or was not ready in time.
        """
        if self.running:
            return
        self.data.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._choose_ports()
        command = self._prepare()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            self.process = spawn(command.arguments, self.data, self.log, command.environment)
            self._wait_until_ready(self.process)
        except BaseException:
            # Also on Ctrl-C: nothing half-started stays behind.
            self.kill()
            raise

    def stop(self) -> None:
        """End the server, in an orderly way if it can; data stays."""
        if self.process is not None:
            self.process.end(self.stop_timeout_s)
        self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
        self.process = None

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def fresh_log(self) -> str:
        """What the server has written since its last start (the last 64 kB at most)."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")

    @abstractmethod
    def _prepare(self) -> Command:
        """Fetch what is missing, write the configuration; called with the ports chosen and free."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether clients can work."""

    def _signal(self, number: signal.Signals) -> None:
        if self.process is None or not self.process.signal(number):
            raise LocalError(f"{self.name} is not running")

    def _choose_ports(self) -> None:
        """Inner ports are kept in the data folder: a server's own metadata may name them."""
        kept = self.data / "ports.json"
        if not self.ports and kept.exists():
            self.ports = json.loads(kept.read_text())
        if set(self.ports) != set(self.inner_ports) or not all(map(is_free, self.ports.values())):
            self.ports = dict(zip(self.inner_ports, free_ports(len(self.inner_ports)), strict=True))
            kept.write_text(json.dumps(self.ports))
        if self.port == 0:
            self.port = next(port for port in free_ports(len(self.ports) + 1) if port not in self.ports.values())
        if not is_free(self.port):
            raise LocalError(f"{self.name}: port {self.port} is taken by another program; end it or name another port")

    def _wait_until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        while not self._is_ready():
            if not process.alive:
                raise LocalError(f"{self.name} ended while starting. {self._last_lines()}")
            if time.monotonic() > deadline:
                raise LocalError(f"{self.name} was not ready after {self.start_timeout_s:.0f} s. {self._last_lines()}")
            time.sleep(_POLL_S)

    def _last_lines(self) -> str:
        lines = [line[:_LOG_LINE_CHARS_MAX] for line in self.fresh_log().splitlines()[-_LOG_LINES:]]
        return f"Its last lines ({self.log}):\n" + "\n".join(lines)
