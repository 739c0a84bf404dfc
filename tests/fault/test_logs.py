"""R1 to R3 when the logs themselves go wrong: each case ends in a clear stop or in the right verdicts.

Offsets that retention took, topics created anew, partitions added, a foreign producer, frozen deciders and indexers,
commits without an answer. Nothing here may end in a `unique` for a picture that was seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from schemas.events import fingerprint_record
from stream.kafka import LogReader, Outgoing, Record
from stream.tenants import partition_of
from tests.fault.cluster import SESSION_TIMEOUT_S, Cluster
from tests.fault.round import Round, Shape, rule_of, seed_of_this_run
from tests.support.deployment import Worker, until
from tests.support.indexed import assert_index_is_the_ledgers, index_of
from tests.support.offline import disagreement, judge_log
from tests.support.pictures import uploads
from tests.support.sabotage import crash_at, lose_answer

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

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
    answers = judge_log(fingerprints, rule_of)
    given = {v.trace.source.key: v for v in this.deployment.verdicts() if v.trace}
    wrong = [w for key, v in given.items() if key in answers and (w := disagreement(answers[key], v))]
    return wrong, [key for key in given if key not in answers]


# -- offsets lost to retention


@pytest.mark.parametrize("stage", ["encode", "decide", "index"])
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
        assert this.workers["encode-0"].terminate() == 0
        create_anew(this, this.deployment.settings.topics.uploads)
        send(this, 150, seed=2)
        this.start("encode")
        all_answered(this)
        this.compare()
        sources = [v.trace.source for v in this.deployment.verdicts() if v.trace]
        assert len({source.key for source in sources}) == len(sources) == 250
        assert len({source.topic_id for source in sources}) == 2


@pytest.mark.parametrize("topic", ["fingerprints", "ledger"])
def test_a_topic_created_anew_between_two_runs_stops(cluster: Cluster, tmp_path: Path, topic: str) -> None:
    """R2, R3: new fingerprints beside an old ledger, or a new ledger beside an old index: DECIDE (and INDEX) stop.

    Break: drop the check of `OffsetLost` in `Ownership._begin` (fingerprints), or `check_links` (ledger).
    """
    with begin(cluster, tmp_path, f"{topic}-anew") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        for name in [*this.of("decide"), *this.of("index")]:
            assert this.workers[name].terminate() == 0
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

    Break: commit offsets without metadata in `committable`.
    """
    with begin(cluster, tmp_path, f"{topic}-old-offset") as this:
        this.start()
        send(this, 60)
        all_answered(this)
        for name in this.of(stage):
            assert this.workers[name].terminate() == 0
        group = f"{this.deployment.settings.kafka.group_prefix}-{stage}"
        name = getattr(this.deployment.settings.topics, topic)
        admin = admin_of(this)
        (old,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        committed = [p for p in old.result().topic_partitions if p.offset > 0]
        assert committed
        create_anew(this, name)
        send(this, 200, seed=2)
        if topic == "fingerprints":
            until(lambda: sum(high for _, high in ends_of(this, name).values()) >= 200, 60)
        (set_again,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, committed)]).values()
        set_again.result()
        assert_stops(this.launch(f"{stage}-0"), "it was deleted and created anew")
        assert this.answers.count == 60


@pytest.mark.parametrize(
    "topic", ["ledger", *(pytest.param(name, marks=pytest.mark.long) for name in ("fingerprints", "uploads"))]
)
def test_a_topic_created_anew_under_the_workers_stops_them(cluster: Cluster, tmp_path: Path, topic: str) -> None:
    """R1, R3: every worker ends within 45 s with status 1 and says that the topic is another; what was judged until
    then is what the offline judge says. A new ledger stops DECIDE before its first transaction there is committed.
    New fingerprints may be read for up to 10 s from where the old ones ended; the note counts what was judged so.

    Break: drop `_check_ledger` in `stream/commit.py` (ledger); `_check_topics` in `stream/service.py` (the others).
    """
    with begin(cluster, tmp_path, f"{topic}-anew-running", Shape(uploads=900, tenants=4, partitions=4)) as this:
        this.start()
        this.send(spread_s=10.0)
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


def test_partitions_added_while_running_stop_everything(cluster: Cluster, tmp_path: Path) -> None:
    """R3: `fingerprints` and `ledger` get more partitions under load, and an encoder that knows the new count comes at
    once: until all have stopped (status 1, what to do) no tenant is judged in two partitions. What the newcomer sends
    elsewhere is a dead letter or unread; new deciders and indexers do not start.

    Break: drop the comparison of counts in `check_topics`; drop `wrong_partition` from `Intake._checked`.
    """
    with begin(cluster, tmp_path, "more-partitions", Shape(uploads=900, tenants=8, partitions=4)) as this:
        this.start()
        this.send(spread_s=10.0)
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


# -- zombies, and answers that are lost


LONGER_THAN_A_TRANSACTION_S = 14.0
LONGER_THAN_A_SESSION_S = SESSION_TIMEOUT_S + 2.0


@pytest.mark.parametrize(
    ("step", "hold_s"),
    [
        ("commit.4", LONGER_THAN_A_SESSION_S),
        pytest.param("commit.2", LONGER_THAN_A_SESSION_S, marks=pytest.mark.long),
        *(
            pytest.param(step, hold_s, marks=pytest.mark.long)
            for step in ("commit.3", "commit.5")
            for hold_s in (LONGER_THAN_A_SESSION_S, LONGER_THAN_A_TRANSACTION_S)
        ),
    ],
)
def test_a_partition_that_moves_with_a_batch_in_hand(
    cluster: Cluster, tmp_path: Path, step: str, hold_s: float
) -> None:
    """R2, R3: a decider freezes inside a commit, another takes its partitions, the first wakes up and goes on with its
    commit. One answer each, as the offline judge says.

    Break: `offsets-outside-the-transaction`.
    """
    mark = tmp_path / "mark"
    with begin(cluster, tmp_path, f"frozen-{step}-{hold_s:.0f}", Shape(uploads=600, tenants=8, partitions=4)) as this:
        this.start("encode", "index")
        this.launch("decide-0", sabotage=crash_at(step, 3, mark, "STOP"))
        this.launch("decide-1")
        this.wait_ready(["decide-0", "decide-1"])
        taken = this.workers["decide-1"].log.read_text().count("assigned fingerprints")
        this.send(spread_s=15.0)
        until(mark.exists, 60, this.tails)
        assert this.sent > this.answers.count, "no hit"
        this.note("frozen", step=step, answered=this.answers.count, sent=this.sent)
        until(lambda: this.workers["decide-1"].log.read_text().count("assigned fingerprints") > taken, 30, this.tails)
        this.note("taken over", answered=this.answers.count)
        time.sleep(max(0.0, hold_s - SESSION_TIMEOUT_S))
        this.workers["decide-0"].resume()
        this.note("continued", answered=this.answers.count)
        this.finish(HEALED_WITHIN_S)
        assert this.workers["decide-0"].process.poll() is None
        thrown_away = "batch thrown away" in this.workers["decide-0"].log.read_text()
        this.note("the zombie's batch", thrown_away=thrown_away)
        # With its offsets sent and its transaction alive the zombie may commit: the new owner waits for that.
        assert thrown_away or (step == "commit.5" and hold_s == LONGER_THAN_A_SESSION_S)


@pytest.mark.parametrize("kind", ["lost", "never"])
def test_a_commit_without_an_answer(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """R2: a commit happened and its answer was lost, or it was never sent: one answer each, the offline judge's.

    Break: `forgetful-restore` (lost); treat `BrokerUnavailable` of a commit as committed (never).
    """
    mark = tmp_path / "mark"
    with begin(cluster, tmp_path, f"answer-{kind}", Shape(uploads=400, tenants=8, partitions=4, deciders=1)) as this:
        this.start("encode", "index")
        this.launch("decide-0", sabotage=lose_answer(kind, 3, mark))
        this.wait_ready(["decide-0"])
        this.send(spread_s=5.0)
        until(mark.exists, 60, this.tails)
        this.finish(HEALED_WITHIN_S)
        log = this.workers["decide-0"].log.read_text()
        assert "batch thrown away: committing a transaction" in log
        assert this.workers["decide-0"].metrics()['dejaview_aborted_batches_total{cause="OutcomeUnknown"}'] >= 1


# -- an index stage that wakes late


def nothing(_this: Round) -> None:
    """The index stays what it was."""


def drop(this: Round) -> None:
    """The index is emptied while the indexer sleeps."""
    index = index_of(this.deployment)
    index.prepare()
    index._connected().drop_collection(index.collection)
    index.close()


@pytest.mark.parametrize(
    ("step", "meanwhile"),
    [
        ("index.2", nothing),
        pytest.param("index.3", nothing, marks=pytest.mark.long),
        pytest.param("index.2", drop, marks=pytest.mark.long),
        pytest.param("index.3", drop, marks=pytest.mark.long),
    ],
)
def test_an_index_stage_that_wakes_late(
    cluster: Cluster, tmp_path: Path, step: str, meanwhile: Callable[[Round], None]
) -> None:
    """R3, R4: an indexer freezes with its rows in the index and their link not yet (2), or with the link just appended
    (3); another goes on (in an emptied index, too); the first wakes and writes. The chain never says more than the
    rows, verdicts are the offline judge's, and the index ends up as the ledger says.

    Break: link before insert in `IndexStage._write`; `pin-the-newest`.
    """
    mark = tmp_path / "mark"
    shape = Shape(uploads=500, tenants=8, partitions=4)
    with begin(cluster, tmp_path, f"late-{step}-{meanwhile.__name__}", shape) as this:
        this.start("encode", "decide")
        this.launch("index-0", sabotage=crash_at(step, 3, mark, "STOP"))
        this.send(spread_s=25.0)
        until(mark.exists, 60, this.tails)
        this.note("frozen", step=step, answered=this.answers.count, sent=this.sent)
        assert this.sent > this.answers.count, "no hit"
        meanwhile(this)
        this.launch("index-1")
        this.wait_ready(["index-1"])
        indexed = "dejaview_indexed_rows_total"
        until(lambda: this.workers["index-1"].metrics().get(indexed, 0) > 0, 60, this.tails)
        this.note("taken over", answered=this.answers.count)
        this.workers["index-0"].resume()
        this.finish(HEALED_WITHIN_S)
        assert_index_is_the_ledgers(this.deployment, this.tails)
        assert {this.workers[name].process.poll() for name in ("index-0", "index-1")} == {None}
