"""What the benchmarks run on: Kafka and Milvus on this machine, and deployments of dejaview on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml

from ops.local.kafka import KafkaServer
from ops.local.milvus import MilvusServer
from ops.local.ports import LOOPBACK, free_port
from ops.local.server import LocalServer
from stream.config import Settings
from stream.errors import DejaviewError
from stream.kafka import Admin, Follower

PARTITIONS = 4
READY_S = 90.0
TIMEOUT_S = 900.0
_TOPICS = ("uploads", "fingerprints", "ledger", "unique", "duplicate", "review", "deadletters")


class TookTooLong(DejaviewError):
    """Something did not happen within its time."""


class Rig:
    """Kafka and Milvus of this run alone, started when first needed. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kafka = KafkaServer(folder / "kafka")
        self._milvus = MilvusServer(folder / "milvus")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kafka.kill()
        self._milvus.kill()

    @property
    def kafka(self) -> KafkaServer:
        self._kafka.start()
        return self._kafka

    @property
    def milvus(self) -> MilvusServer:
        self._milvus.start()
        return self._milvus

    @property
    def servers(self) -> dict[str, list[int]]:
        """Processes by server."""
        return {server.name: pid_of(server) for server in (self._kafka, self._milvus)}


def pid_of(server: LocalServer) -> list[int]:
    return [server.process.pid] if server.process is not None else []


class Worker:
    """One `dejaview run`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self._port = port
        self._log = log

    def wait_ready(self) -> None:
        """Until /readyz says yes.

        Raises:
            TookTooLong: it does not; the message has the log's end.
        """
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                self._get("readyz")
                return
            time.sleep(0.05)
        raise TookTooLong(f"a worker was not ready: {self._log.read_text()[-2000:]}")

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self._get("metrics").splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text


class Deployment:
    """Topics and a collection of its own, and the workers on them. Use as a context manager."""

    def __init__(self, rig: Rig, **values: Any) -> None:
        """Make topics.

        Args:
            values: settings beside those of the rig, by section.
        """
        self.tag = f"bench{uuid.uuid4().hex[:8]}"
        self._folder = rig.folder
        self._values: dict[str, Any] = {
            "kafka": {"bootstrap_servers": rig.kafka.bootstrap, "group_prefix": self.tag},
            "topics": {name: f"{self.tag}.{name}" for name in _TOPICS},
            "index": {"uri": rig.milvus.uri, "collection": self.tag},
            **values,
        }
        self.settings = Settings(**self._values)
        self.workers: list[Worker] = []
        self.admin = Admin(self.settings)
        for name in self._values["topics"].values():
            self.admin.create(name, PARTITIONS, 1, {"max.message.bytes": str(self.settings.topics.message_bytes_max)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()

    def start(self, *stages: str) -> Worker:
        """A worker of these stages, of all if none is named."""
        port, name = free_port(), f"{self.tag}-{len(self.workers)}"
        config = self._folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**self._values, "health": {"port": port}, "instance_id": name}))
        command = [sys.executable, "-m", "ops.cli.main", "run", "--config", str(config)]
        for stage in stages:
            command += ["--stage", stage]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        log = self._folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)  # noqa: S603
        worker = Worker(process, port, log)
        self.workers.append(worker)
        return worker

    def end(self, worker: Worker) -> None:
        worker.end()
        self.workers.remove(worker)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self.workers]


class Arrivals:
    """When each verdict became visible to a read-committed consumer, by upload id. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.at_s: dict[str, float] = {}
        self._stop = threading.Event()
        topics = dict.fromkeys([*settings.topics.verdicts, settings.topics.deadletters], PARTITIONS)
        self._follower = Follower(settings, topics, from_start=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._follower.close()

    def wait(self, upload_ids: Sequence[str]) -> list[float]:
        """Arrival times of these, in their order.

        Raises:
            TookTooLong: not all came.
        """
        until(lambda: all(name in self.at_s for name in upload_ids), lambda: f"{len(self.at_s)} verdicts came")
        return [self.at_s[name] for name in upload_ids]

    def _follow(self) -> None:
        while not self._stop.is_set():
            # One at a time: a larger read waits for company, and that is no latency of the verdict.
            for record in self._follower.read(1, 0.1):
                now = time.time()
                self.at_s.setdefault(json.loads(record.value or b"{}")["upload_id"], now)


def until(condition: Callable[[], bool], told: Callable[[], str], timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a condition.

    Raises:
        TookTooLong: it did not come true; `told` says how far it came.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TookTooLong(f"not within {timeout_s:g} s: {told()}")
        time.sleep(0.05)
