"""What the tests of broken logs share: topics that lose records or are created anew, workers that must stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream.kafka import LogReader, Record
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.fault.round import THRESHOLDS, Round, rule_at, seed_of_this_run
from tests.support.deployment import Worker, until
from tests.support.offline import disagreement, judge_log
from tests.support.pictures import uploads

SHAPE = Shape(uploads=320, tenants=4, partitions=4)
HEALED_WITHIN_S = 90.0
# A running worker asks for the topics every 10 s (`stream.service.TOPIC_CHECK_S`) and drains before it ends.
STOPPED_WITHIN_S = 45.0


def admin_of(this: Round) -> AdminClient:
    return AdminClient({"bootstrap.servers": this.cluster.kafka.bootstrap})


def begin(cluster: Cluster, folder: Path, name: str, shape: Shape = SHAPE) -> Round:
    return Round(cluster, folder, name, seed_of_this_run(), shape)


def send(this: Round, count: int, seed: int = 1) -> None:
    """More uploads, all at once."""
    shape = this.shape
    this.sent += this.deployment.send(uploads(count, this.seed * 1_000 + seed, shape.tenants, shape.partitions))


def all_answered(this: Round) -> None:
    until(lambda: this.answers.count >= this.sent, 120, lambda: f"{this.answers.count} of {this.sent}; {this.tails()}")


def stop_all(this: Round) -> None:
    """All workers, in an orderly way: a running one would end by itself when a topic is created anew."""
    for worker in this.workers.values():
        assert worker.terminate() == 0
    this.note("stopped all", answered=this.answers.count)


def assert_stops(worker: Worker, *says: str, within_s: float = STOPPED_WITHIN_S) -> None:
    """It ends by itself with status 1, and its last words say why and what to do."""
    status = worker.process.wait(within_s)
    log = worker.log.read_text()
    assert status == 1, log[-2_000:]
    said = log[log.rindex("dejaview: ") :]
    assert any(text in said for text in says), said


def ends_of(this: Round, topic: str) -> dict[int, tuple[int, int]]:
    reader = LogReader(this.deployment.settings, topic)
    try:
        return {partition: reader.ends(partition) for partition in range(this.shape.partitions)}
    finally:
        reader.close()


def delete_records(this: Round, topic: str) -> None:
    """What retention does: everything that is in the topic now goes."""
    ends = [TopicPartition(topic, p, high) for p, (_, high) in ends_of(this, topic).items() if high]
    # A client that is collected never answers: it is kept until its futures are done.
    admin = admin_of(this)
    for future in admin.delete_records(ends).values():
        future.result()


def create_anew(this: Round, topic: str) -> None:
    """Delete a topic and create it again under the same name, as fast as the broker allows."""
    admin = admin_of(this)
    for deleted in admin.delete_topics([topic]).values():
        deleted.result()
    config = {"max.message.bytes": str(this.deployment.settings.topics.message_bytes_max)}
    deadline = time.monotonic() + 30
    while True:
        (created,) = admin.create_topics([NewTopic(topic, this.shape.partitions, 1, config=config)]).values()
        try:
            created.result()
        except KafkaException:
            # The name is free a moment after the deletion.
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            break
    this.note("created anew", topic=topic, answered=this.answers.count, sent=this.sent)


def wrong_verdicts(this: Round, fingerprints: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Verdicts that the offline judge does not give over these fingerprints, and those of other fingerprints."""
    answers = judge_log(fingerprints, rule_at(THRESHOLDS))
    given = {v.trace.source.key: v for v in this.deployment.verdicts() if v.trace}
    wrong = [w for key, v in given.items() if key in answers and (w := disagreement(answers[key], v))]
    return wrong, [key for key in given if key not in answers]
