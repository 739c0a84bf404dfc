"""A deployment of its own on real servers: topics, settings, worker processes, and what came out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas.cloudevents import upload_headers
from schemas.events import DeadLetter, Verdict
from stream.config import Settings
from stream.decision import Rule
from stream.kafka import Admin, LogProducer, LogReader, Outgoing, Record
from stream.kafka.client import configuration
from stream.kafka.records import record_of
from tests.support.offline import Answer, judge_log
from tests.support.sabotage import wanted

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class SentUpload:
    """One upload to send: its bytes (or JSON reference), id, tenant and upload partition."""

    upload_id: str
    value: bytes
    tenant: str = "t"
    partition: int = 0
    content_type: str = "image/jpeg"


METRICS_AT = re.compile(r"metrics at http://127\.0\.0\.1:(\d+)/metrics")


@dataclass
class Worker:
    """A `dejaview run` process."""

    process: subprocess.Popen[bytes]
    log: Path
    _port: int = 0

    @property
    def port(self) -> int:
        """Where it serves health and metrics, as its log says; 0 before. It picks one itself: two test runs beside
        each other would choose the same one now and then.
        """
        if not self._port and (found := METRICS_AT.search(self.log.read_text(errors="replace"))):
            self._port = int(found[1])
        return self._port

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = 40.0) -> int:
        """SIGTERM and wait for the drain; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def get(self, path: str) -> tuple[int, str]:
        """GET one of /livez, /readyz, /metrics."""
        port = self.port
        if not port:
            return 0, "it has not begun to serve"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def suspend(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def metrics(self) -> dict[str, float]:
        """/metrics as a mapping from `name{labels}` to the value; empty when nobody answers."""
        status, text = self.get("/metrics")
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines} if status == 200 else {}

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log.read_text()[-3000:]}"
            return self.get("/readyz")[0] == 200

        until(ready, timeout_s, lambda: f"not ready: {self.get('/readyz')}; {self.log.read_text()[-3000:]}")


@dataclass
class Deployment:
    """Topics and a collection of its own; `workers` are ended by `close`."""

    folder: Path
    settings: Settings
    values: dict[str, Any]
    workers: list[Worker] = field(default_factory=list)
    # What only the workers are told: addresses of proxies, say.
    worker_values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, bootstrap: str, milvus_uri: str, partitions: int = 4, **values: Any) -> Deployment:
        merged = own_values(bootstrap, milvus_uri, partitions, values)
        settings = Settings(**merged)
        deployment = cls(folder, settings, merged)
        admin = Admin(settings)
        topics = settings.topics
        every = (topics.uploads, topics.fingerprints, topics.ledger, *topics.verdicts, topics.deadletters)
        for name in every:
            admin.create(name, partitions, 1, {"max.message.bytes": str(topics.message_bytes_max)})
        # On a busy machine a new topic takes seconds to show.
        until(lambda: len(admin.existing(every)) == len(set(every)), 60)
        return deployment

    def start(self, name: str, *stages: str, sabotage: Mapping[str, str] | None = None, **values: Any) -> Worker:
        """A worker process with a stable instance id; all stages when none is named.

        Args:
            sabotage: environment for `tests.support.worker`, which breaks the program or crashes it at a stated step.
            values: settings of this worker only.
        """
        config = self.folder / f"{name}.yaml"
        merged = merge(self.values, self.worker_values, values, {"instance_id": name, "health": {"port": 0}})
        config.write_text(yaml.safe_dump(merged))
        log = self.folder / f"{name}-{len(self.workers)}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(sabotage or {})}
        program = "tests.support.worker" if wanted(environment) else "ops.cli.main"
        command = [sys.executable, "-m", program, "run", "--config", str(config)]
        for stage in stages:
            command += ["--stage", stage]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=self.folder)
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def send(self, uploads: Iterable[SentUpload]) -> int:
        producer = LogProducer(self.settings)
        sent = 0
        for upload in uploads:
            headers = upload_headers(upload.upload_id, upload.tenant, upload.content_type, "/tests")
            producer.produce([Outgoing(self.settings.topics.uploads, upload.value, headers, upload.partition)])
            producer.serve()
            sent += 1
        producer.flush()
        return sent

    def arrived(self) -> int:
        """Records on the uploads topic."""
        reader = LogReader(self.settings, self.settings.topics.uploads)
        try:
            ends = [reader.ends(partition) for partition in range(self.settings.topics.partitions)]
        finally:
            reader.close()
        return sum(high - low for low, high in ends)

    def send_raw(self, records: Sequence[Outgoing]) -> None:
        producer = LogProducer(self.settings)
        producer.produce(records)
        producer.flush()

    def read(self, *topics: str) -> list[Record]:
        """All committed records of these topics, partition by partition."""
        group = f"{self.settings.kafka.group_prefix}-reader"
        options = configuration(self.settings, self.settings.kafka.consumer_options, {"group.id": group})
        found = read_all(options, [(t, p) for t in topics for p in range(self.settings.topics.partitions)])
        return sorted(found, key=lambda record: (record.topic, record.partition, record.offset))

    def verdicts(self) -> list[Verdict]:
        return [Verdict.model_validate_json(r.value or b"") for r in self.read(*self.settings.topics.verdicts)]

    def dead_letters(self) -> list[DeadLetter]:
        return [DeadLetter.model_validate_json(r.value or b"") for r in self.read(self.settings.topics.deadletters)]

    def judged(self) -> int:
        """Verdicts and dead letters that are visible now."""
        return len(self.read(*self.settings.topics.verdicts, self.settings.topics.deadletters))

    def wait_judged(self, count: int, timeout_s: float = 120.0) -> None:
        until(lambda: self.judged() >= count, timeout_s, lambda: f"{self.judged()} of {count} judged; {self._logs()}")

    def offline(self, rule_of: Callable[[str], Rule]) -> dict[str, Answer]:
        """The offline judge's answers over the same fingerprints topic."""
        return judge_log(self.read(self.settings.topics.fingerprints), rule_of)

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    def _logs(self) -> str:
        return json.dumps({w.log.name: w.log.read_text()[-1500:] for w in self.workers}, indent=1)


def own_values(bootstrap: str, milvus_uri: str, partitions: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with a group prefix, topics and a collection that nobody else has."""
    tag = f"d{uuid.uuid4().hex[:10]}"
    names = (
        "uploads",
        "fingerprints",
        "ledger",
        "unique",
        "duplicate",
        "review",
        "deadletters",
        "backfill",
        "backfilled",
    )
    return {
        **values,
        "kafka": {"bootstrap_servers": bootstrap, "group_prefix": tag, **values.get("kafka", {})},
        "topics": {name: f"{tag}.{name}" for name in names} | {"partitions": partitions},
        "index": {"uri": milvus_uri, "collection": tag, "index_type": "FLAT", **values.get("index", {})},
    }


def merge(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several sources, later ones win; sections are merged."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            old = merged.get(name)
            merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def until(condition: Callable[[], bool], timeout_s: float, why: Callable[[], str] = lambda: "") -> None:
    """Wait for a condition; fails with `why` when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {why()}"
        time.sleep(0.1)


def read_all(options: Mapping[str, Any], places: Sequence[tuple[str, int]]) -> list[Record]:
    """Committed records of whole partitions, given as (topic, partition)."""
    own = {"auto.offset.reset": "earliest", "enable.partition.eof": True, "isolation.level": "read_committed"}
    consumer = Consumer({**options, **own, "enable.auto.commit": False, "fetch.wait.max.ms": 20})
    left = set(places)
    found: list[Record] = []
    deadline = time.monotonic() + 30
    try:
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in places])
        while left:
            assert time.monotonic() < deadline, f"not read to their ends: {sorted(left)}"
            for message in consumer.consume(2_000, 0.05):
                error = message.error()
                if error is None:
                    found.append(record_of(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic(), message.partition()))
    finally:
        consumer.close()
    return found
