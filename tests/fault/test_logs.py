"""R1 to R3 when the logs themselves go wrong: each case ends in a clear stop or in the right verdicts.

Offsets that retention took, topics created anew, partitions added, a foreign producer, frozen deciders and indexers,
commits without an answer. Nothing here may end in a `unique` for a picture that was seen.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import NewPartitions, NewTopic

from schemas.events import fingerprint_record
from stream.kafka import Outgoing, Record
from stream.tenants import partition_of
from tests.fault.broken_logs import (
    SHAPE,
    admin_of,
    all_answered,
    assert_stops,
    begin,
    create_anew,
    delete_records,
    ends_of,
    send,
    stop_all,
    wrong_verdicts,
)
from tests.fault.cluster import Cluster
from tests.fault.load import Shape
from tests.support.deployment import until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


# -- offsets lost to retention


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=pytest.mark.long) for stage in ("encode", "decide", "index")]
)
def test_what_retention_took_stops_the_stage(cluster: Cluster, tmp_path: Path, stage: str) -> None:
    """R1: records that a stage had yet to read are deleted while it is down: it ends with status 1, and says that they
    are gone and how to go on. It never skips them.

    Break: `auto.offset.reset=earliest` in `GroupConsumer`; drop `check_progress`.
    """
    with begin(cluster, tmp_path, f"retention-{stage}") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        worker = this.workers.pop(f"{stage}-0")
        others = [this.workers.pop(name) for name in this.of(stage)]
        assert {w.terminate() for w in [worker, *others]} == {0}
        topics = this.deployment.settings.topics
        topic = {"encode": topics.uploads, "decide": topics.fingerprints, "index": topics.ledger}[stage]
        before = sum(high for _, high in ends_of(this, topic).values())
        send(this, 60, seed=2)
        if stage == "index":
            all_answered(this)
        until(lambda: sum(high for _, high in ends_of(this, topic).values()) >= before + 60, 60)
        delete_records(this, topic)
        answered = this.answers.count
        restarted = this.launch(f"{stage}-0")
        if stage == "index":
            assert_stops(restarted, "Restore the ledger")
        else:
            assert_stops(restarted, "--reset-offsets")
        assert this.answers.count == answered


@pytest.mark.long
def test_offsets_that_expired_stop_the_judge(cluster: Cluster, tmp_path: Path) -> None:
    """R2: without its group's offsets DECIDE would judge everything again: beside a ledger that is not empty it stops.

    Break: drop that check in `Ownership._begin`.
    """
    with begin(cluster, tmp_path, "expired") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        for name in this.of("decide"):
            assert this.workers[name].terminate() == 0
        group = f"{this.deployment.settings.kafka.group_prefix}-decide"
        admin = admin_of(this)
        for future in admin.delete_consumer_groups([group]).values():
            future.result()
        send(this, 60, seed=2)
        assert_stops(this.launch("decide-0"), "has no committed offset and its ledger is not empty")
        assert this.answers.count == 60


# -- topics created anew


@pytest.mark.long
def test_uploads_created_anew_between_two_runs(cluster: Cluster, tmp_path: Path) -> None:
    """R1: the same places of another topic are other uploads: all are judged, none is taken for a repeat.

    Break: leave the topic id out of `SourcePosition.key`.
    """
    with begin(cluster, tmp_path, "uploads-anew") as this:
        this.start()
        send(this, 100)
        all_answered(this)
        stop_all(this)
        create_anew(this, this.deployment.settings.topics.uploads)
        send(this, 150, seed=2)
        this.start()
        all_answered(this)
        this.compare()
        sources = [v.trace.source for v in this.deployment.verdicts() if v.trace]
        assert len({source.key for source in sources}) == len(sources) == 250
        assert len({source.topic_id for source in sources}) == 2


@pytest.mark.long
@pytest.mark.parametrize("topic", ["fingerprints", "ledger"])
def test_a_topic_created_anew_between_two_runs_stops(cluster: Cluster, tmp_path: Path, topic: str) -> None:
    """R2, R3: new fingerprints beside an old ledger, or a new ledger beside an old index: DECIDE (and INDEX) stop.

    Break: drop the check of `OffsetLost` in `Ownership._begin` (fingerprints), or `check_links` (ledger).
    """
    with begin(cluster, tmp_path, f"{topic}-anew") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        stop_all(this)
        create_anew(this, getattr(this.deployment.settings.topics, topic))
        send(this, 120, seed=2)
        if topic == "fingerprints":
            assert_stops(this.launch("decide-0"), "has no committed offset and its ledger is not empty")
        else:
            assert_stops(this.launch("decide-0"), "created anew")
            assert_stops(this.launch("index-0"), "created anew")
        assert this.answers.count == 60


@pytest.mark.parametrize(
    ("stage", "topic"), [("decide", "fingerprints"), pytest.param("encode", "uploads", marks=pytest.mark.long)]
)
def test_an_offset_of_the_old_topic_is_not_one_of_the_new(
    cluster: Cluster, tmp_path: Path, stage: str, topic: str
) -> None:
    """R1: a commit that overtakes the deletion leaves an offset that lies inside the new topic. It names the topic that
    it was made for, and the stage stops instead of skipping what is before it.

    Break: `offsets-without-a-topic`.
    """
    with begin(cluster, tmp_path, f"{topic}-old-offset") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        stop_all(this)
        group = f"{this.deployment.settings.kafka.group_prefix}-{stage}"
        name = getattr(this.deployment.settings.topics, topic)
        admin = admin_of(this)
        (old,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        committed = [p for p in old.result().topic_partitions if p.offset > 0]
        assert committed
        create_anew(this, name)
        send(this, 200, seed=2)
        if topic == "fingerprints":
            this.start("encode")
            until(lambda: sum(high for _, high in ends_of(this, name).values()) >= 200, 60)
        (set_again,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, committed)]).values()
        set_again.result()
        assert_stops(this.launch(f"{stage}-0"), "it was deleted and created anew")
        assert this.answers.count == 60


@pytest.mark.parametrize(
    "topic", [pytest.param(name, marks=pytest.mark.long) for name in ("ledger", "fingerprints", "uploads")]
)
def test_a_topic_created_anew_under_the_workers_stops_them(cluster: Cluster, tmp_path: Path, topic: str) -> None:
    """R1, R3: every worker ends within 45 s with status 1 and says that the topic is another; what was judged until
    then is what the offline judge says. A new ledger stops DECIDE before its first transaction there is committed.
    New fingerprints may be read for up to 10 s from where the old ones ended; the note counts what was judged so.

    Break: `topics-unwatched`. With `any-ledger-offset` the ledger's fails where DECIDE is quick enough to commit into
    the new one before it is stopped; `tests/unit/test_commit.py` does not depend on that.
    """
    with begin(cluster, tmp_path, f"{topic}-anew-running", Shape(uploads=900, tenants=4, partitions=4)) as this:
        this.start()
        this.load.send(spread_s=10.0)
        this.wait_answered(0.1)
        this.hit(*this.of("encode"))
        topics = this.deployment.settings.topics
        if topic == "fingerprints":
            # Nothing is added, so that what the deciders could read before is known.
            this.workers["encode-0"].suspend()
            known = this.deployment.read(topics.fingerprints)
        create_anew(this, getattr(topics, topic))
        if topic == "fingerprints":
            this.workers["encode-0"].resume()
        says = ("created anew", "Retention deleted", "has no committed offset", "no topic", "UNKNOWN_TOPIC")
        for name in list(this.workers):
            assert_stops(this.workers[name], *says)
            this.note("stopped", worker=name, said=this.workers[name].log.read_text()[-300:])
        if topic != "fingerprints":
            known = this.deployment.read(topics.fingerprints)
        wrong, unknown = wrong_verdicts(this, known)
        this.note("stopped all", judged=this.answers.count, from_the_new_topic=len(unknown))
        assert not wrong
        assert not unknown or topic == "fingerprints"


# -- partitions


@pytest.mark.long
def test_partitions_added_while_running_stop_everything(cluster: Cluster, tmp_path: Path) -> None:
    """R3: `fingerprints` and `ledger` get more partitions under load, and an encoder that knows the new count comes at
    once: until all have stopped (status 1, what to do) no tenant is judged in two partitions. What the newcomer sends
    elsewhere is a dead letter or unread; new deciders and indexers do not start.

    Break: `topics-unwatched`; drop `wrong_partition` from `Intake._checked`.
    """
    with begin(cluster, tmp_path, "more-partitions", Shape(uploads=900, tenants=8, partitions=4)) as this:
        this.start()
        this.load.send(spread_s=10.0)
        this.wait_answered(0.1)
        this.hit(*this.of("encode"), *this.of("decide")[:1])
        topics = this.deployment.settings.topics
        admin = admin_of(this)
        wanted = [NewPartitions(name, 6) for name in (topics.fingerprints, topics.ledger)]
        for future in admin.create_partitions(wanted).values():
            future.result()
        old = list(this.workers)
        this.note("partitions added", answered=this.answers.count)
        newcomers = [this.launch("encode-new"), this.launch("decide-new"), this.launch("index-new")]
        for name in old:
            assert_stops(this.workers[name], "Changing the partition count")
        for worker in newcomers[1:]:
            assert_stops(worker, "Tenants would change their judge")
        assert newcomers[0].terminate() == 0
        records = this.deployment.read(topics.fingerprints)
        right: list[Record] = []
        wrong: list[Record] = []
        for record in records:
            parsed = fingerprint_record.validate_json(record.value or b"")
            own = partition_of((parsed.tenant or "").encode(), SHAPE.partitions) == record.partition
            (right if own else wrong).append(record)
        letters = {letter.source.key: letter.reason for letter in this.deployment.dead_letters()}
        this.note("stopped all", fingerprints=len(records), elsewhere=len(wrong), dead_letters=len(letters))
        assert set(letters.values()) <= {"wrong_partition"}
        assert wrong_verdicts(this, right) == ([], [])


@pytest.mark.long
def test_a_foreign_producers_partitioner(cluster: Cluster, tmp_path: Path) -> None:
    """R3, R5: fingerprints in partitions that are not their tenants' get a dead letter `wrong_partition`, no verdict,
    and the others are judged as ever.

    Break: drop that check from `Intake._checked`.
    """
    with begin(cluster, tmp_path, "foreign") as this:
        topics = this.deployment.settings.topics
        staging = f"{topics.fingerprints}.staging"
        admin = admin_of(this)
        (made,) = admin.create_topics([NewTopic(staging, SHAPE.partitions, 1)]).values()
        made.result()
        this.start("index", "decide")
        this.start("encode", topics={"fingerprints": staging})
        send(this, 200)
        until(lambda: sum(high for _, high in ends_of(this, staging).values()) >= 200, 90, this.tails)
        astray: set[str] = set()
        moved = []
        for n, record in enumerate(this.deployment.read(staging)):
            parsed = fingerprint_record.validate_json(record.value or b"")
            partition = record.partition
            if n % 3 == 0:
                partition = (record.partition + 1 + n % 2) % SHAPE.partitions
                astray.add(parsed.source.key)
            moved.append(Outgoing(topics.fingerprints, record.value or b"", partition=partition))
        this.deployment.send_raw(moved)
        all_answered(this)
        report = this.verify()
        assert report["reasons"] == {"wrong_partition": len(astray)}
        assert {letter.source.key for letter in this.deployment.dead_letters()} == astray
        own = [
            record
            for record in this.deployment.read(topics.fingerprints)
            if fingerprint_record.validate_json(record.value or b"").source.key not in astray
        ]
        assert wrong_verdicts(this, own) == ([], [])
