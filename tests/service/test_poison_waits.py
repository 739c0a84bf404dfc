"""R5 on real servers: what is not the upload's fault waits: an unwritable dead-letter topic, a store that is away."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ops.local.kafka import KafkaServer
from schemas.events import Reason
from stream.kafka import Admin
from stream.tenants import partition_of
from tests.support.deployment import Deployment, SentUpload, Worker, until
from tests.support.groups import Groups
from tests.support.photos import jpeg, photo

pytestmark = pytest.mark.timeout(500)

PARTITIONS = 4
# Below any dead letter, and above the marker of an aborted transaction: one that cannot be written never ends.
REFUSING_BYTES = 256
BYTES_MAX = 1_000_000
IN_FLIGHT_MAX = 64
IN_FLIGHT_BYTES_MAX = 60_000_000
ABORTED = "dejaview_aborted_batches_total"


class Blocked:
    """A deployment whose dead letters cannot be written, with one upload that needs one."""

    def __init__(self, folder: Path, kafka: KafkaServer, milvus_uri: str) -> None:
        self.deployment = Deployment.create(folder, kafka.bootstrap, milvus_uri, PARTITIONS)
        self.groups = Groups(self.deployment.settings)
        self.topics = self.deployment.settings.topics
        self.partition = partition_of(b"t", PARTITIONS)

    def send(self, name: str) -> int:
        """One upload that is no picture, then three that are, of the same tenant."""
        values = [b"no picture", *(jpeg(photo(p)) for p in ("coffee.png", "rocket.jpg", "camera.png"))]
        return self.deployment.send(SentUpload(f"{name}-{n}", value, "t", n) for n, value in enumerate(values))

    def committed(self) -> int:
        """How far DECIDE has come in the tenant's partition."""
        return max(0, self.groups.places("decide", self.topics.fingerprints)[0][self.partition])

    def first_failure(self) -> int:
        """The place of the failure in the fingerprints topic."""
        records = self.deployment.read(self.topics.fingerprints)
        return next(record.offset for record in records if b'"kind":"failure"' in (record.value or b""))

    def all_encoded(self, sent: int) -> bool:
        return len(self.deployment.read(self.topics.fingerprints)) == sent

    def ends_well(self, sent: int) -> None:
        """One dead letter, a verdict for each of the others, and nothing is left."""
        self.deployment.wait_judged(sent, 120)
        until(lambda: self.groups.done("decide", self.topics.fingerprints), 60)
        letters, verdicts = self.deployment.dead_letters(), self.deployment.verdicts()
        assert [letter.reason for letter in letters] == [Reason.UNSUPPORTED_FORMAT]
        assert len({verdict.upload_id for verdict in verdicts}) == len(verdicts) == sent - 1

    def close(self) -> None:
        self.deployment.close()
        self.groups.close()


@pytest.fixture
def blocked(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Blocked]:
    made = Blocked(tmp_path, kafka, milvus_uri)
    yield made
    made.close()


def test_a_dead_letter_topic_that_refuses_holds_the_offset(blocked: Blocked) -> None:
    """R5: the broker refuses the dead letter: nothing from it on is committed, /readyz says why, and once the topic is
    repaired there is one dead letter and the rest is judged, without a restart.

    Break, tried: take MSG_SIZE_TOO_LARGE for delivered in `LogProducer._delivered`.
    """
    blocked.groups.configure(blocked.topics.deadletters, "max.message.bytes", str(REFUSING_BYTES))
    worker = blocked.deployment.start("a")
    worker.wait_ready()
    sent = blocked.send("x")
    until(lambda: "MSG_SIZE_TOO_LARGE" in worker.get("/readyz")[1], 60, lambda: worker.get("/readyz")[1])
    until(lambda: blocked.all_encoded(sent), 30)
    tries = sample(worker, ABORTED)
    until(lambda: sample(worker, ABORTED) >= tries + 2, 60)
    status, why = worker.get("/readyz")
    assert (status, worker.get("/livez")[0]) == (503, 200)
    assert "decide broker" in why
    assert blocked.committed() <= blocked.first_failure()
    assert blocked.deployment.judged() == blocked.committed()
    blocked.groups.configure(blocked.topics.deadletters, "max.message.bytes", "1048588")
    blocked.ends_well(sent)
    worker.wait_ready(30)


def test_a_dead_letter_topic_that_is_gone_holds_the_offset(blocked: Blocked) -> None:
    """R5: the dead-letter topic was deleted: nothing from the first dead letter on is committed, the worker says which
    topic is missing, and once it is there again (and the worker started) there is one dead letter and the rest.

    Break, tried: skip dead letters in `Committer._records` (the worker never stops).
    """
    worker = blocked.deployment.start("a")
    worker.wait_ready()
    blocked.groups.delete(blocked.topics.deadletters)
    sent = blocked.send("x")
    until(lambda: worker.process.poll() is not None or worker.get("/readyz")[0] == 503, 120)
    until(lambda: worker.process.poll() is not None, 120, lambda: worker.get("/readyz")[1])
    assert worker.process.returncode != 0
    assert "topics create" in worker.log.read_text()
    assert blocked.committed() <= blocked.first_failure()
    Admin(blocked.deployment.settings).create(blocked.topics.deadletters, PARTITIONS, 1, {})
    blocked.deployment.start("a").wait_ready()
    blocked.ends_well(sent)


class Store(ThreadingHTTPServer):
    """An S3 endpoint on this machine: answers `status`, with a picture for 200, and counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status = 503
        self.asked: Counter[str] = Counter()
        self.picture = jpeg(photo("chelsea.png"))
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        store = self.server
        assert isinstance(store, Store)
        store.asked[self.path.partition("?")[0]] += 1
        body = store.picture if store.status == 200 else b"<Error><Code>SlowDown</Code></Error>"
        self.send_response(store.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    running = Store()
    yield running
    running.shutdown()
    running.server_close()


def references(name: str, count: int) -> list[SentUpload]:
    uris = [f"s3://photos/{name}-{n}.jpg" for n in range(count)]
    return [
        SentUpload(f"{name}-{n}", json.dumps({"uri": uri}).encode(), "t", n % PARTITIONS, "application/json")
        for n, uri in enumerate(uris)
    ]


def test_a_store_that_answers_503_is_waited_for(
    kafka: KafkaServer, milvus_uri: str, tmp_path: Path, store: Store
) -> None:
    """R5: while the store answers 503 uploads that do not need it are judged, what is in flight is bounded, /readyz
    says why, and there is no dead letter; when it is back everything has its verdict. Past `fetch_retry_max_s`, and
    never before, an upload is a dead letter `store_unavailable`, and the worker is ready again.

    Breaks, each tried: take 503 for the item's fault; give up when the next wait would reach past the limit (dead
    letters come early); leave the trouble standing after the dead letter (never ready again).
    """
    encode = {"in_flight_items_max": IN_FLIGHT_MAX, "in_flight_bytes_max": IN_FLIGHT_BYTES_MAX}
    deployment = Deployment.create(tmp_path, kafka.bootstrap, milvus_uri, PARTITIONS, encode=encode)
    try:
        worker = deployment.start("a", intake=intake_of(store, 120))
        worker.wait_ready()
        waits_and_goes_on(deployment, worker, store)
        assert worker.terminate() == 0
        worker = deployment.start("a", intake=intake_of(store, 3))
        worker.wait_ready()
        gives_up_in_time(deployment, worker, store)
    finally:
        deployment.close()


def intake_of(store: Store, fetch_retry_max_s: float) -> dict[str, object]:
    return {
        "bytes_max": BYTES_MAX,
        "s3_buckets": ["photos"],
        "s3_endpoint": f"http://127.0.0.1:{store.server_address[1]}",
        "s3_access_key_id": "id",
        "s3_secret_access_key": "secret",
        "fetch_retry_max_s": fetch_retry_max_s,
    }


def waits_and_goes_on(deployment: Deployment, worker: Worker, store: Store) -> None:
    away = references("away", 6)
    sent = deployment.send(away)
    until(lambda: len(store.asked) == len(away) and min(store.asked.values()) >= 2, 30)
    value = jpeg(photo("coffee.png"))
    inline = deployment.send(SentUpload(f"inline-{n}", value, "t", n % PARTITIONS) for n in range(8))
    deployment.wait_judged(inline, 30)
    status, why = worker.get("/readyz")
    assert status == 503
    assert "encode input" in why
    assert "503" in why
    more = deployment.send(references("more", 150))
    # No more is taken when the largest record might not fit any more.
    until(lambda: sample(worker, "dejaview_in_flight_bytes") > IN_FLIGHT_BYTES_MAX - 22_500_000, 30)
    assert sample(worker, "dejaview_in_flight_bytes") <= IN_FLIGHT_BYTES_MAX
    assert sample(worker, "dejaview_in_flight_uploads") <= IN_FLIGHT_MAX
    assert deployment.judged() == inline
    store.status = 200
    deployment.wait_judged(sent + inline + more, 60)
    assert deployment.dead_letters() == []
    worker.wait_ready(20)


def gives_up_in_time(deployment: Deployment, worker: Worker, store: Store) -> None:
    before = deployment.judged()
    store.status = 503
    sent = deployment.send(references("lost", 4))
    deployment.wait_judged(before + sent, 30)
    letters = deployment.dead_letters()
    assert [letter.reason for letter in letters] == [Reason.STORE_UNAVAILABLE] * sent
    waited_ms = [
        record.timestamp_ms - json.loads(record.value or b"")["upload_timestamp_ms"]
        for record in deployment.read(deployment.settings.topics.deadletters)
    ]
    assert min(waited_ms) >= 3_000, waited_ms
    worker.wait_ready(10)


def sample(worker: Worker, name: str) -> float:
    """One of the worker's metrics, summed over its labels; 0 before it was counted."""
    return sum(value for found, value in worker.metrics().items() if found.partition("{")[0] == name)
