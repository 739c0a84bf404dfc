"""The main path on real Kafka and Milvus: judged once, the same after a crash, one representative."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.kafka import KafkaServer
from schemas.events import Fingerprint, Verdict, fingerprint_record
from stream.kafka import Outgoing
from tests.support.deployment import Deployment, SentUpload, Worker, until
from tests.support.judged import assert_equal_to_offline, uploads
from tests.support.photos import collage, edited, jpeg, photo

pytestmark = pytest.mark.timeout(300)

Create = Callable[..., Deployment]


@pytest.fixture
def create(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Create]:
    """Makes deployments; ends their workers."""
    made: list[Deployment] = []

    def one(**values: Any) -> Deployment:
        made.append(Deployment.create(tmp_path, kafka.bootstrap, milvus_uri, **values))
        return made[-1]

    yield one
    for deployment in made:
        deployment.close()


def test_killed_workers_lose_nothing_and_change_no_verdict(create: Create) -> None:
    """R1, R2: 300 uploads, all workers killed with verdicts in flight; each is judged once, as the offline judge does.

    Breaks, each tried: commit the offsets before the transaction (uploads are lost); rebuild the window from the
    ledger's end instead of the index's progress (other verdicts). Never committing offsets is no break: the restored
    memory drops what the ledger knows.
    """
    deployment = create(decide={"batch_items_max": 8}, encode={"batch_items_max": 8})
    workers = [deployment.start("a"), deployment.start("b")]
    for worker in workers:
        worker.wait_ready()
    sent = deployment.send(uploads(300, seed=1))
    # By the metrics: reading the topics would take longer than judging the rest.
    until(lambda: sum(map(published, workers)) >= 40, 60)
    for worker in workers:
        worker.kill()
    judged, encoded = deployment.judged(), len(deployment.read(deployment.settings.topics.fingerprints))
    assert judged < encoded, f"nothing was in flight at the kill: {judged} judged of {encoded} encoded"
    assert judged < sent
    for name in ("a", "b"):
        deployment.start(name)
    deployment.wait_judged(sent)
    kinds = assert_equal_to_offline(deployment, sent)
    assert kinds["unique"] > 0
    assert kinds["duplicate"] > 0


def test_consumed_is_verdicts_dead_letters_and_dropped_repeats(create: Create) -> None:
    """R1, without faults: conservation, in the log and in the metrics. Break: count dropped repeats as verdicts."""
    deployment = create()
    worker = deployment.start("a")
    worker.wait_ready()
    good = uploads(60, seed=2)
    bad = [SentUpload(f"bad-{p}", b"not an image", "tenant-0", p) for p in range(4)]
    sent = deployment.send([*good, *bad])
    deployment.wait_judged(sent)
    # The encoder's repeat: the same fingerprint record once more.
    (first, *_) = deployment.read(deployment.settings.topics.fingerprints)
    deployment.send_raw([Outgoing(first.topic, first.value or b"", partition=first.partition)])

    def metrics() -> dict[str, float]:
        return worker.metrics()

    until(lambda: metrics()["dejaview_dropped_repeats_total"] == 1, 30)
    assert_equal_to_offline(deployment, sent)
    seen = metrics()
    verdicts = published(worker)
    assert verdicts == sent - 4
    assert seen['dejaview_dead_letters_total{reason="unsupported_format"}'] == 4
    assert seen['dejaview_events_total{stage="decide"}'] == verdicts + 4 + 1
    assert seen['dejaview_events_total{stage="encode"}'] == sent
    assert seen["dejaview_in_flight_uploads"] == 0
    assert worker.get("/livez")[0] == 200
    assert worker.terminate() == 0


def test_copies_at_the_same_moment_have_one_representative(create: Create) -> None:
    """R3: 120 edited copies of one picture, over all partitions, two encoders and two deciders: one is unique.

    Break: search the index with `Bounded` consistency and without the window.
    """
    deployment = create(decide={"batch_items_max": 16})
    names = ("encode-a", "encode-b", "decide-a", "decide-b", "index-a")
    workers = [deployment.start(name, name.split("-")[0]) for name in names]
    for worker in workers:
        worker.wait_ready()
    edits = ("jpeg_50", "brightness", "contrast", "grey")
    copies = [edited("astronaut.png", edit, seed) for edit in edits for seed in range(6)]
    sent = deployment.send(SentUpload(f"copy-{n}", copies[n % len(copies)], "one", n % 4) for n in range(120))
    deployment.wait_judged(sent)
    kinds = assert_equal_to_offline(deployment, sent)
    assert kinds == {"unique": 1, "duplicate": 119}
    answered = [worker.metrics()['dejaview_events_total{stage="encode"}'] for worker in workers[:2]]
    assert min(answered) > 0, f"one encoder did all the work: {answered}"


def test_tenants_do_not_see_each_other(create: Create) -> None:
    """R11: the same bytes under six tenants are six unique pictures, now and from the index. Break: drop the filter."""
    deployment = create()
    worker = deployment.start("a")
    worker.wait_ready()
    value = jpeg(photo("rocket.jpg"))
    deployment.send(SentUpload("first", value, f"tenant-{n}", n % 4) for n in range(6))
    deployment.wait_judged(6)
    # Past the window: the rows are in the index, and the window has let go of them.
    until(lambda: worker.metrics()["dejaview_window_rows"] == 0, 60)
    deployment.send(SentUpload("second", value, f"tenant-{n}", n % 4) for n in range(7))
    deployment.wait_judged(13)
    by_id: dict[str, list[Verdict]] = {"first": [], "second": []}
    for verdict in deployment.verdicts():
        by_id[verdict.upload_id].append(verdict)
    assert Counter(str(v.verdict) for v in by_id["first"]) == {"unique": 6}
    assert Counter(str(v.verdict) for v in by_id["second"]) == {"unique": 1, "duplicate": 6}
    assert_equal_to_offline(deployment, 13)


def test_a_collage_is_a_duplicate_of_what_it_shows(create: Create) -> None:
    """From the index, from the window and within a batch; the match names the part. Batches are smaller than panels.

    ENCODE keeps no order: what a collage is to find is sent before it.

    Breaks: encode the whole alone; ask the index for the whole alone; take the hits of the first panel for the second.
    """
    deployment = create(encode={"batch_items_max": 2})
    encoder, decider, indexer = (deployment.start(stage, stage) for stage in ("encode", "decide", "index"))
    for worker in (encoder, decider, indexer):
        worker.wait_ready()
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
    value = jpeg(collage(*names))

    def photos(tenant: str, *names: str) -> list[SentUpload]:
        return [SentUpload(name, jpeg(photo(name)), tenant, 0) for name in names]

    def send_and_encode(uploads: list[SentUpload], count: int) -> None:
        deployment.send(uploads)
        until(lambda: len(deployment.read(deployment.settings.topics.fingerprints)) >= count, 60)

    deployment.send(photos("indexed", "rocket.jpg"))
    deployment.wait_judged(1)
    until(lambda: indexer.metrics().get("dejaview_indexed_rows_total", 0) >= 1, 60)
    until(lambda: decider.metrics().get("dejaview_window_rows", 1) == 0, 60)
    deployment.send([SentUpload("collage", value, "indexed", 0), SentUpload("collage", value, "alone", 0)])
    deployment.wait_judged(3)
    indexer.terminate()
    deployment.send(photos("window", *names[1:]))
    deployment.wait_judged(6)
    until(lambda: decider.metrics().get("dejaview_window_rows", 0) >= 3, 30)
    deployment.send([SentUpload("collage", value, "window", 0)])
    deployment.wait_judged(7)
    decider.terminate()
    send_and_encode(photos("together", *names[1:]), 10)
    send_and_encode([SentUpload("collage", value, "together", 0)], 11)
    deployment.start("decide", "decide")
    deployment.wait_judged(11)
    kinds = assert_equal_to_offline(deployment, 11)
    assert kinds == {"unique": 8, "duplicate": 3}
    found = {v.tenant: v for v in deployment.verdicts() if v.upload_id == "collage"}
    assert found["alone"].match is None
    match = found["indexed"].match
    assert match is not None
    assert match.upload_id == "rocket.jpg"
    assert match.panel is not None
    assert match.panel.model_dump() == pytest.approx({"left": 0, "top": 0.5, "right": 0.5, "bottom": 1}, abs=0.02)
    for tenant in ("window", "together"):
        verdict = found[tenant]
        others = {one.upload_id: one.panel for one in verdict.neighbours if one.score >= verdict.threshold}
        assert set(others) == set(names[1:])
        assert len({box.model_dump_json() for box in others.values() if box is not None}) == 3
    assert encoder.metrics()["dejaview_panels_total"] >= 16


def test_fingerprints_lie_with_their_tenant(create: Create) -> None:
    """The partitioner is the tenant's alone, and SHA-256 is the bytes'. Break: partition by upload id."""
    deployment = create()
    deployment.start("a", "encode").wait_ready()
    value = jpeg(photo("camera.png"))
    sent = deployment.send(SentUpload(f"u{n}", value, f"tenant-{n % 5}", n % 4) for n in range(20))
    topic = deployment.settings.topics.fingerprints
    until(lambda: len(deployment.read(topic)) == sent, 60)
    places: dict[str, set[int]] = {}
    for record in deployment.read(topic):
        parsed = fingerprint_record.validate_json(record.value or b"")
        assert isinstance(parsed, Fingerprint)
        assert parsed.sha256 == hashlib.sha256(value).hexdigest()
        places.setdefault(parsed.tenant, set()).add(record.partition)
    assert len(places) == 5
    assert all(len(partitions) == 1 for partitions in places.values())


def published(worker: Worker) -> float:
    """Verdicts that a worker has committed."""
    seen = worker.metrics()
    return sum(value for name, value in seen.items() if name.startswith("dejaview_verdicts_total"))
