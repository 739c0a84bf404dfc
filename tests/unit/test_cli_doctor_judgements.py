"""The judgements of `doctor`: facts of a broken deployment in, the finding that names the fix out.

Breaks that these tests catch, each tried: every comparison turned round, one at a time (`<` for `>`), in
`topics._ledger`, `topics._sizes`, `groups._lost`, `chain.judge_progress`, `clock.judge_clock`, `broker._timeouts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ops.cli.topics import planned
from ops.doctor.broker import judge_broker_settings
from ops.doctor.chain import judge_progress
from ops.doctor.clock import Stamp, judge_clock
from ops.doctor.groups import GroupFacts, judge_group
from ops.doctor.index import judge_collection
from ops.doctor.report import Finding, State
from ops.doctor.topics import DAY_MS, judge_configs, judge_copies, judge_partitions, judge_presence
from schemas.events import EMBEDDING_SIZE
from stream.config import IndexSettings, KafkaSettings, Settings, TopicSettings
from stream.kafka.admin import Copies, Group
from stream.neighbours.milvus.collection import describe
from stream.neighbours.milvus.probe import CollectionFacts
from stream.neighbours.protocol import Link

TOPICS = TopicSettings()
HEALTHY = {
    "retention.ms": str(7 * DAY_MS),
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
}


def configs(**changed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the broker says after `topics create`, with changes by the topic's field."""
    made = {name: {**HEALTHY, **own} for name, own in planned(TOPICS).items()}
    for field, values in changed.items():
        made[getattr(TOPICS, field)].update(values)
    return made


def only(findings: Sequence[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_topics_as_created_are_well() -> None:
    """What `topics create` makes raises nothing but the one copy."""
    counts = dict.fromkeys(planned(TOPICS), 12)
    copies = {name: [Copies(has_leader=True, replicas=1, in_sync=1)] for name in counts}
    assert only(judge_presence(TOPICS, counts)).state is State.OK
    assert only(judge_partitions(TOPICS, counts)).state is State.OK
    assert only(judge_configs(Settings(), configs())).state is State.OK
    assert only(judge_copies(copies, configs())).state is State.WARNING


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({"ledger": {"retention.ms": "604800000"}}, State.BROKEN, "retention.ms=-1"),
        ({"ledger": {"retention.bytes": "1000"}}, State.BROKEN, "retention.bytes=-1"),
        ({"ledger": {"cleanup.policy": "compact"}}, State.BROKEN, "cleanup.policy=delete"),
        ({"unique": {"cleanup.policy": "compact,delete"}}, State.BROKEN, "cleanup.policy=delete"),
        ({"uploads": {"max.message.bytes": "1048588"}}, State.BROKEN, "max.message.bytes=21000000"),
        ({"ledger": {"max.message.bytes": "1000"}}, State.WARNING, "max.message.bytes=1048588"),
        ({"fingerprints": {"retention.ms": "3600000"}}, State.WARNING, "retention.ms=604800000"),
        ({"uploads": {"retention.ms": "3600000"}}, State.WARNING, "retention.ms=604800000"),
        ({"fingerprints": {"retention.bytes": "1000"}}, State.WARNING, "retention.bytes=-1"),
    ],
)
def test_a_topic_setting_that_breaks_a_promise(changed: dict[str, dict[str, str]], state: State, said: str) -> None:
    """Each is found and the fix names the topic, the option and its value."""
    finding = only(judge_configs(Settings(), configs(**changed)))
    assert finding.state is state
    assert finding.fix.endswith(said)
    (field,) = changed
    assert getattr(TOPICS, field) in finding.found


def test_uploads_that_expire_while_they_wait_for_a_store() -> None:
    """Retention below intake.fetch_retry_max_s is a warning of its own."""
    found = judge_configs(Settings(), configs(uploads={"retention.ms": "900000"}))
    assert "intake.fetch_retry_max_s" in found[-1].found
    assert {finding.state for finding in found} == {State.WARNING}


@pytest.mark.parametrize(
    ("copies", "in_sync_min", "state", "said"),
    [
        (Copies(has_leader=True, replicas=3, in_sync=3), 2, State.OK, ""),
        (Copies(has_leader=False, replicas=3, in_sync=0), 2, State.BROKEN, "no leader for partitions 0"),
        (Copies(has_leader=True, replicas=3, in_sync=1), 2, State.BROKEN, "fewer copies in sync"),
        (Copies(has_leader=True, replicas=2, in_sync=2), 3, State.BROKEN, "nothing can be written"),
        (Copies(has_leader=True, replicas=2, in_sync=2), 2, State.WARNING, "one lost broker stops writing"),
        (Copies(has_leader=True, replicas=3, in_sync=3), 1, State.WARNING, "lost with it"),
        (Copies(has_leader=True, replicas=1, in_sync=1), 1, State.WARNING, "one copy only"),
    ],
)
def test_copies(copies: Copies, in_sync_min: int, state: State, said: str) -> None:
    """Leaders, copies in sync and min.insync.replicas against each other."""
    finding = only(judge_copies({"t": [copies]}, {"t": {"min.insync.replicas": str(in_sync_min)}}))
    assert finding.state is state
    assert said in finding.found


def test_missing_topics_and_unequal_counts() -> None:
    """The missing topic and its command; both counts; more partitions than are read at once."""
    counts = dict.fromkeys(planned(TOPICS), 4)
    del counts[TOPICS.review]
    missing = only(judge_presence(TOPICS, counts))
    assert missing.state is State.BROKEN
    assert TOPICS.review in missing.found
    assert "dejaview topics create" in missing.fix
    unequal = only(judge_partitions(TOPICS, {**counts, TOPICS.ledger: 8}))
    assert unequal.state is State.BROKEN
    assert "has 4 partitions" in unequal.found
    assert "has 8" in unequal.found
    many = only(judge_partitions(TOPICS, {TOPICS.fingerprints: 97, TOPICS.ledger: 97}))
    assert many.state is State.BROKEN
    assert "96" in many.found


@pytest.mark.parametrize(
    ("config", "state", "said"),
    [
        ({}, State.OK, ""),
        ({"transaction.max.timeout.ms": "5000"}, State.BROKEN, "kafka.transaction_timeout_s to 5"),
        ({"group.min.session.timeout.ms": "30000"}, State.BROKEN, "kafka.session_timeout_s to 30"),
        ({"group.max.session.timeout.ms": "6000"}, State.BROKEN, "kafka.session_timeout_s to 6"),
        ({"offsets.retention.minutes": "1440"}, State.WARNING, "offsets.retention.minutes to 10080"),
    ],
)
def test_broker_settings(config: dict[str, str], state: State, said: str) -> None:
    """A broker that refuses our time-outs, or forgets offsets early, is said with both settings."""
    usual = {
        "transaction.max.timeout.ms": "900000",
        "group.min.session.timeout.ms": "6000",
        "group.max.session.timeout.ms": "1800000",
        "offsets.retention.minutes": "10080",
    }
    finding = only(judge_broker_settings(Settings(), {1: {**usual, **config}}))
    assert finding.state is state
    assert said in finding.fix


def test_a_short_transaction_limit_does_not_matter_at_least_once() -> None:
    """No transaction, no limit."""
    settings = Settings(delivery="at_least_once", kafka=KafkaSettings())
    assert only(judge_broker_settings(settings, {1: {"transaction.max.timeout.ms": "5000"}})).state is State.OK


GROUP = GroupFacts(
    stage="decide",
    topic="fingerprints",
    group=Group("g", 1, {0: 5, 1: 7}),
    ends={0: (2, 10), 1: (0, 7)},
    written={0: (0, 3), 1: (0, 3)},
)


@pytest.mark.parametrize(
    ("facts", "state", "said"),
    [
        (GROUP, State.OK, "1 members, lag 5"),
        (replace(GROUP, group=Group("g", 0, {0: 10, 1: 7})), State.OK, "0 members, lag 0"),
        (replace(GROUP, group=Group("g", 0, {0: 5, 1: 7})), State.WARNING, "5 records wait and nobody works"),
        (
            replace(GROUP, group=Group("g", 1, {0: 1, 1: 7})),
            State.BROKEN,
            "partition 0 (offset 1, the log begins at 2)",
        ),
        (replace(GROUP, group=Group("g", 1, {0: 5, 1: 8})), State.BROKEN, "partition 1 (offset 8, the log ends at 7)"),
        (replace(GROUP, group=Group("g", 1, {0: 5, 1: None})), State.BROKEN, "no committed offset in partition 1"),
        (replace(GROUP, stage="encode", group=Group("g", 1, {0: None, 1: None})), State.WARNING, "begins anew"),
        (replace(GROUP, stage="encode", group=Group("g", 1, {0: 5, 1: None})), State.OK, "1 members"),
        # `latest` is for a new group: what was added to the topic later is read from its beginning.
        (
            replace(GROUP, stage="encode", first_start="latest", group=Group("g", 1, {0: 10, 1: None})),
            State.OK,
            "1 members, lag 7",
        ),
        (
            replace(GROUP, stage="encode", first_start="latest", group=Group("g", 1, {0: None, 1: None}), written={}),
            State.OK,
            "1 members, lag 0",
        ),
        (replace(GROUP, stage="index", group=Group("g", 0, {0: 1, 1: None})), State.OK, "0 members"),
        (
            replace(GROUP, group=Group("g", 0, {0: None, 1: None}), ends={0: (0, 0), 1: (0, 0)}, written={}),
            State.OK,
            "nothing committed yet",
        ),
    ],
)
def test_groups(facts: GroupFacts, state: State, said: str) -> None:
    """An offset that retention or a new topic has overtaken, or that expired beside a ledger, stops a stage: said."""
    finding = only(judge_group(facts))
    assert finding.state is state
    assert said in finding.found
    assert state is not State.BROKEN or "--group g --topic fingerprints" in finding.fix


def link(start: int, end: int, *, topic_id: str = "ledger-1", partition: int = 0, partitions: int = 2) -> Link:
    return Link(topic_id, partition, partitions, start, end, 1 << 20)


@pytest.mark.parametrize(
    ("links", "ends", "state", "said"),
    [
        ([], {0: (0, 0), 1: (0, 0)}, State.OK, "0 ledger records behind"),
        ([link(0, 50), link(50, 90)], {0: (0, 100), 1: (0, 0)}, State.OK, "10 ledger records behind"),
        ([link(0, 50)], {0: (0, 151), 1: (0, 120)}, State.WARNING, "221 ledger records of 2 partitions"),
        ([link(0, 50)], {0: (0, 49), 1: (0, 0)}, State.BROKEN, "up to offset 50"),
        ([link(0, 50)], {0: (51, 90), 1: (0, 0)}, State.BROKEN, "up to offset 50"),
        ([], {0: (0, 0), 1: (5, 9)}, State.BROKEN, "begins at offset 5"),
        ([link(50, 90)], {0: (0, 100), 1: (0, 0)}, State.OK, "100 ledger records behind"),
        ([link(0, 5, topic_id="ledger-0")], {0: (0, 9), 1: (0, 0)}, State.BROKEN, "ledger topic id ledger-0"),
        ([link(0, 5, partitions=3)], {0: (0, 9), 1: (0, 0)}, State.BROKEN, "built with 3 ledger partitions"),
    ],
)
def test_progress(links: list[Link], ends: dict[int, tuple[int, int]], state: State, said: str) -> None:
    """The chain against the ledger, as the stages judge it: a gap, another ledger, another count; or just behind."""
    finding = only(judge_progress(links, "ledger-1", ends))
    assert finding.state is state, finding
    assert said in finding.found
    assert state is not State.BROKEN or "ndex" in finding.fix


FOUND = CollectionFacts("c_m", describe("m"), EMBEDDING_SIZE, "COSINE", "HNSW", "Strong", loaded=True)


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (FOUND, State.OK, "HNSW"),
        (None, State.WARNING, "not there yet"),
        (replace(FOUND, dimension=128), State.BROKEN, "dimension is 128"),
        (replace(FOUND, metric="L2"), State.BROKEN, "metric is L2"),
        (replace(FOUND, index_type="FLAT"), State.BROKEN, "index.index_type is FLAT, expected HNSW"),
        (replace(FOUND, description=describe("other")), State.BROKEN, "model=other"),
        (replace(FOUND, index_type="", metric=""), State.WARNING, "no vector index"),
        (replace(FOUND, loaded=False), State.WARNING, "not loaded"),
        (replace(FOUND, consistency="Eventually"), State.WARNING, "Eventually"),
    ],
)
def test_collections(found: CollectionFacts | None, state: State, said: str) -> None:
    """The collection beside the settings: what differs is named with both values."""
    finding = only(judge_collection(IndexSettings(), "m", found))
    assert finding.state is state
    assert said in finding.found


@pytest.mark.parametrize(
    ("server_ms", "state", "said"),
    [
        (100_000, State.OK, ""),
        (100_050, State.OK, ""),
        (101_050, State.OK, ""),
        (101_200, State.WARNING, "1.1 s ahead"),
        (98_500, State.WARNING, "1.5 s behind"),
        (131_000, State.BROKEN, "30.9 s ahead"),
        (60_000, State.BROKEN, "40.0 s behind"),
    ],
)
def test_clocks(server_ms: int, state: State, said: str) -> None:
    """A stamp between question and answer is no skew; above 1 s it is a warning, above 30 s broken."""
    finding = judge_clock("c", "Milvus", Stamp(server_ms, 100_000, 100_100))
    assert finding.state is state
    assert said in finding.found
