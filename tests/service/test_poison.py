"""R5 and R6 on real servers: poison of every kind is last in its partition, and the partition goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.local.kafka import KafkaServer
from schemas.cloudevents import Headers, upload_headers
from schemas.events import DeadLetter, Reason, Verdict
from stream.kafka import Outgoing
from stream.tenants import partition_of
from tests.support.deployment import Deployment, SentUpload, Worker, until
from tests.support.groups import Groups
from tests.support.photos import jpeg, photo
from tests.support.poison import BYTES_MAX, CANARY, Poison, send_header_name, slow_picture, table

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 8
WALL_S = 10
FILLER_BYTES = 3_000_000
# What Kafka allows a record of a topic that says nothing else.
USUAL_RECORD_BYTES = 1_048_588
linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the decoder process in /proc")


def tenants_of_all_partitions() -> list[str]:
    """One tenant for each partition of `fingerprints`."""
    found: dict[int, str] = {}
    for n in range(1_000):
        found.setdefault(partition_of(f"tenant-{n}".encode(), PARTITIONS), f"tenant-{n}")
    return [found[partition] for partition in range(PARTITIONS)]


TENANTS = tenants_of_all_partitions()


@dataclass
class Scene:
    """A deployment with one worker and one decoder process, and what it was sent so far."""

    deployment: Deployment
    worker: Worker
    groups: Groups
    root: Path
    reasons: dict[str, Reason | None] = field(default_factory=dict)
    rounds: int = 0

    def expect(self, upload: Outgoing, reason: Reason | None) -> None:
        self.reasons[f"{upload.partition}:{upload.offset}"] = reason

    def send(self, poison: list[Poison]) -> None:
        """One each to the ends of as many partitions."""
        topic = self.deployment.settings.topics.uploads
        records = [Outgoing(topic, one.value, one.headers, partition) for partition, one in enumerate(poison)]
        self.deployment.send_raw(records)
        for record, one in zip(records, poison, strict=True):
            self.expect(record, one.reason)

    def passed(self) -> None:
        """The offsets of both topics are past all there is."""
        topics = self.deployment.settings.topics
        until(lambda: self.groups.done("encode", topics.uploads), 60, self.why)
        until(lambda: self.groups.done("decide", topics.fingerprints), 60, self.why)

    def settled(self) -> None:
        """Nothing is left, each upload has its one answer, and the same worker is alive and ready."""
        self.passed()
        # Readers of committed data may be a moment behind.
        until(lambda: self.deployment.judged() >= len(self.reasons), 20, self.why)
        letters, verdicts = self.deployment.dead_letters(), self.deployment.verdicts()
        assert self.answers(letters, verdicts) == Counter((place, reason) for place, reason in self.reasons.items())
        assert self.worker.get("/livez")[0] == 200
        self.worker.wait_ready(20)

    def answers(self, letters: list[DeadLetter], verdicts: list[Verdict]) -> Counter[tuple[str, Reason | None]]:
        found: Counter[tuple[str, Reason | None]] = Counter()
        for letter in letters:
            found[f"{letter.source.partition}:{letter.source.offset}", letter.reason] += 1
        for verdict in verdicts:
            assert verdict.trace is not None
            found[f"{verdict.trace.source.partition}:{verdict.trace.source.offset}", None] += 1
        return found

    def goes_on(self) -> None:
        """Behind the poison an upload in each partition of both topics has its verdict."""
        self.rounds += 1
        topic = self.deployment.settings.topics.uploads
        value = jpeg(photo("coffee.png"), 90 - self.rounds)
        good = [SentUpload(f"good-{self.rounds}", value, tenant, n) for n, tenant in enumerate(TENANTS)]
        _, starts = self.groups.places("encode", topic)
        self.deployment.send(good)
        for upload in good:
            self.reasons[f"{upload.partition}:{starts[upload.partition]}"] = None
        self.settled()

    def why(self) -> str:
        return f"{self.worker.get('/readyz')} {self.worker.log.read_text()[-2000:]}"


@pytest.fixture(scope="module")
def scene(kafka: KafkaServer, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One deployment for all kinds of poison. Topics take what Kafka's default allows, uploads take pictures."""
    folder = tmp_path_factory.mktemp("poison")
    root = folder / "allowed"
    root.mkdir()
    intake = {
        "bytes_max": BYTES_MAX,
        "decoders": 1,
        "decode_cpu_s": WALL_S,
        "decode_wall_s": WALL_S,
        "file_roots": [str(root)],
    }
    deployment = Deployment.create(
        folder, kafka.bootstrap, milvus_uri, PARTITIONS, intake=intake, tenants={"allowed": TENANTS}
    )
    groups = Groups(deployment.settings)
    topics = deployment.settings.topics
    for name in (topics.fingerprints, topics.ledger, *topics.verdicts, topics.deadletters):
        groups.configure(name, "max.message.bytes", str(USUAL_RECORD_BYTES))
    try:
        worker = deployment.start("a")
        worker.wait_ready()
        yield Scene(deployment, worker, groups, root)
    finally:
        deployment.close()
        groups.close()


def test_poison_of_every_kind_is_last_and_the_partition_goes_on(scene: Scene) -> None:
    """R5, R6: 68 kinds of hostile pictures, events, JSON, references and tenants, each the last record of its
    partition: one dead letter each with the right reason (or the verdict that a harmless oddity deserves), offsets past
    it, nothing of its bytes told, and the next uploads of every partition are judged.

    Breaks, each tried: raise in `Preparer._fail`; leave a failure uncommitted; the malformed tenant as the
    fingerprint's key (too long for the topic, tried for ever); a structured event of any number of values parsed. (A
    reference of any size shows as memory alone: `tests/unit/test_fuzz_events.py`.)
    """
    kinds = table(scene.root, TENANTS)
    for first in range(0, len(kinds), PARTITIONS):
        scene.send(kinds[first : first + PARTITIONS])
        scene.passed()
    scene.goes_on()
    letters = scene.deployment.read(scene.deployment.settings.topics.deadletters)
    assert not [letter.value for letter in letters if CANARY in (letter.value or b"")]
    assert max(len(letter.value or b"") for letter in letters) < 10_000
    assert all(letter.replay.startswith("dejaview replay ") for letter in scene.deployment.dead_letters())


@linux
def test_a_decoder_that_hangs(scene: Scene) -> None:
    """R6: the decoder process is stopped with a picture in hand: `decode_timeout` after the wall time, then a new one.

    Break, tried: wait for a reply without a deadline.
    """
    pid = decoder_of(scene.worker)
    os.kill(pid, signal.SIGSTOP)
    scene.send([Poison("hangs", jpeg(photo("coffee.png")), headers_of("hangs"), Reason.DECODE_TIMEOUT)])
    scene.passed()
    assert decoder_of(scene.worker) != pid
    scene.goes_on()


@linux
def test_a_decoder_killed_by_a_signal(scene: Scene) -> None:
    """R6: the decoder is killed with a picture in hand, and the second one too: one dead letter, `decoder_crashed`.

    Breaks, each tried: let `CrashedError` out of the pool (the stage ends); try for ever (the third try succeeds: a
    verdict instead of the dead letter).
    """
    # A fresh process, so that what one reads before its first picture (its modules) is known.
    os.kill(decoder_of(scene.worker), signal.SIGKILL)
    scene.goes_on()
    restarts = decoder_restarts(scene.worker)
    first, value = decoder_of(scene.worker), slow_picture(FILLER_BYTES)
    fresh_bytes = bytes_read(first)
    scene.send([Poison("killed", value, headers_of("killed"), Reason.DECODER_CRASHED)])
    kill_when_read(first, fresh_bytes + len(value))
    until(lambda: decoders_of(scene.worker) not in ([], [first]), 30)
    # The first had read a few small pictures, too.
    kill_when_read(decoder_of(scene.worker), fresh_bytes + len(value) - FILLER_BYTES // 4)
    scene.passed()
    assert decoder_restarts(scene.worker) == restarts + 2
    scene.goes_on()


@pytest.mark.parametrize("times", [1, 40])
def test_a_header_whose_name_is_not_utf_8(scene: Scene, times: int) -> None:
    """R5: a client that writes any bytes for a header's name cannot stop a partition either, nor many times over.

    Break: read `message.headers()` by a plain call in `stream/kafka/records.py`: after some records the process ends.
    """
    topics = scene.deployment.settings.topics
    _, ends = scene.groups.places("encode", topics.uploads)
    bootstrap = scene.deployment.settings.kafka.bootstrap_servers
    for n in range(times):
        send_header_name(bootstrap, topics.uploads, 3, b"ce_\xff\xfe")
        scene.reasons[f"3:{ends[3] + n}"] = Reason.BAD_TENANT
    scene.passed()
    scene.goes_on()


def headers_of(upload_id: str) -> Headers:
    return upload_headers(upload_id, TENANTS[0], "image/jpeg", "/tests")


def decoder_of(worker: Worker) -> int:
    """The worker's one decoder process."""
    (pid,) = decoders_of(worker)
    return pid


def decoders_of(worker: Worker) -> list[int]:
    children = [c for t in Path(f"/proc/{worker.process.pid}/task").iterdir() for c in words_of(t / "children").split()]
    return [int(c) for c in children if b"decoder_child" in words_of(Path(f"/proc/{c.decode()}/cmdline"))]


def words_of(file: Path) -> bytes:
    """A file of /proc, empty when its thread or process has just ended."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def decoder_restarts(worker: Worker) -> int:
    return int(worker.metrics()["dejaview_decoder_restarts"])


def bytes_read(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def kill_when_read(pid: int, byte_count: int) -> None:
    until(lambda: bytes_read(pid) >= byte_count, 30)
    os.kill(pid, signal.SIGKILL)
