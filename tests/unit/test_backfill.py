"""`dejaview backfill`: the log is its state; nothing is sent twice that has a verdict, and no more than may wait."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from ops.backfill.answers import Answers
from ops.backfill.run import Progressed, backfill, encoding
from ops.backfill.sources import Item, from_addresses, from_pictures
from ops.cli.backfill import report, summary
from ops.cli.errors import CommandError
from ops.cli.pictures import find_pictures
from schemas.events import FingerprintFailure, LedgerEntry, Reason, UploadReference
from stream.commit import event_record
from stream.config import Settings, TopicSettings
from stream.judge import Judge, Knowledge, Outcome, Work
from stream.kafka import Outgoing, Record
from stream.ledger import remember
from stream.memory import Memory
from stream.metrics import Metrics
from stream.observe import observe, uploaded_ms, youngest_s
from stream.window import Window
from tests.support.made import at_similarity, fingerprint, random_vector, rule_of

TOPICS = TopicSettings()
TOPIC_ID = "backfill-1"


def entry_of(offset: int, upload_id: str, judge: Judge, *, broken: bool = False) -> LedgerEntry:
    """What DECIDE writes of the n-th upload of the backfill topic. Every third is near the first."""
    near = at_similarity(random_vector(0), 0.95, offset)
    made = fingerprint(offset, near if offset % 3 == 0 else random_vector(offset), upload_id=upload_id)
    place = made.source.model_copy(update={"topic_id": TOPIC_ID})
    record: object = made.model_copy(update={"source": place, "source_topic": TOPICS.backfill})
    if broken:
        record = FingerprintFailure(
            source=place, source_topic=TOPICS.backfill, upload_timestamp_ms=0, tenant="t", upload_id=upload_id,
            reason=Reason.BAD_IMAGE, detail="",
        )  # fmt: skip
    (outcome,) = judge.judge([Work(0, offset, record)], Knowledge())  # type: ignore[arg-type]
    assert outcome.entry is not None
    remember(outcome.entry, offset, judge.window, judge.memory)
    return outcome.entry


class Broker:
    """Stands for the topics and the stages: an upload is answered some reads after it was sent."""

    def __init__(self, answers: Answers, broken: Sequence[str] = ()) -> None:
        self.sent: list[str] = []
        self.most_waiting = 0
        self._answers = answers
        self._broken = broken
        self._judge = Judge(Window(1_000), Memory(1_000), rule_of)
        self._judged = 0

    def send(self, records: list[Outgoing]) -> None:
        self.sent += [(record.key or b"").decode() for record in records]

    def waiting_from_start(self) -> int:
        return len(self.sent)

    def read(self) -> None:
        self.most_waiting = max(self.most_waiting, len(self.sent) - self._judged)
        self._answers.take(self._next(self._judged) for _ in range(min(2, len(self.sent) - self._judged)))

    def _next(self, offset: int) -> Record:
        entry = entry_of(offset, self.sent[offset], self._judge, broken=self.sent[offset] in self._broken)
        self._judged += 1
        made = event_record(entry, TOPICS)
        return Record(made.topic, 0, offset, 0, made.headers, made.value)

    def forget_answers(self, answers: Answers) -> None:
        """A new run: it reads all answers again."""
        self._answers = answers
        self._judge = Judge(Window(1_000), Memory(1_000), rule_of)
        self._judged = 0


def library(count: int) -> list[Item]:
    return [Item("t", f"u{n}", Outgoing(TOPICS.backfill, b"-", key=f"u{n}".encode())) for n in range(count)]


def run(
    broker: Broker, answers: Answers, items: list[Item], *, ahead: int = 1_000, turns: int | None = None
) -> Progressed | None:
    last = None
    for n, now in enumerate(backfill(items, answers, broker, None, ahead)):
        last = now
        if n == turns:
            break
    return last


def test_everything_is_sent_in_order_and_judged_once() -> None:
    """Break: end when all is sent."""
    answers = Answers(TOPIC_ID)
    broker = Broker(answers)
    assert run(broker, answers, library(250)) == Progressed(250, 0, 0)
    assert broker.sent == [f"u{n}" for n in range(250)]
    assert answers.answered == 250
    assert answers.kinds.total() == 250
    found = report(answers)
    assert found["verdicts"]["duplicate"] == 83
    assert {one["of"] for one in found["duplicates"] if one["verdict"] == "duplicate"} == {"u0"}


def test_two_reports_of_one_library_are_equal() -> None:
    """Partitions come in no fixed order. Break: report duplicates as they were read."""
    first = Answers(TOPIC_ID)
    broker = Broker(first)
    run(broker, first, library(50))
    judge = Judge(Window(1_000), Memory(1_000), rule_of)
    made = [event_record(entry_of(n, f"u{n}", judge, broken=False), TOPICS) for n in range(50)]
    records = [Record(one.topic, 0, n, 0, one.headers, one.value) for n, one in enumerate(made)]
    second = Answers(TOPIC_ID)
    second.take(reversed(records))
    assert report(second) == report(first)


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 40])
def test_an_interrupted_run_is_gone_on_with_and_nothing_is_sent_again(turns: int) -> None:
    """Whatever had no verdict yet when it broke off. Break: do not wait for what an earlier run sent."""
    first = Answers(TOPIC_ID)
    broker = Broker(first)
    run(broker, first, library(250), turns=turns)
    before = len(broker.sent)
    second = Answers(TOPIC_ID)
    broker.forget_answers(second)
    assert run(broker, second, library(250)) == Progressed(250 - before, before, 0)
    assert broker.sent == [f"u{n}" for n in range(250)]
    assert "250 uploads judged" in summary(second)


def test_what_has_a_dead_letter_is_sent_again() -> None:
    """The picture was mended meanwhile. Break: a dead letter makes its id known."""
    first = Answers(TOPIC_ID)
    broker = Broker(first, broken=("u7",))
    run(broker, first, library(20))
    assert first.reasons == {Reason.BAD_IMAGE: 1}
    assert "1 bad_image" in summary(first)
    run(broker, first, library(20))
    assert broker.sent[20:] == ["u7"]


def test_no_more_waits_than_is_allowed() -> None:
    """Live uploads of the tenant wait behind it. Break: do not hold back."""
    answers = Answers(TOPIC_ID)
    broker = Broker(answers)
    run(broker, answers, library(300), ahead=10)
    assert broker.most_waiting <= 20
    assert answers.answered == 300


def test_the_rate_is_kept() -> None:
    """Break: sleep before the first batch only."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    answers = Answers(TOPIC_ID)
    for _ in backfill(library(100), answers, Broker(answers), 20.0, 1_000, clock=lambda: now[0], sleep=sleep):
        """To its end."""
    assert now[0] == pytest.approx(99 / 20)


def test_an_answer_that_comes_twice_counts_once() -> None:
    """Delivery at_least_once. Break: count records."""
    answers, judge = Answers(TOPIC_ID), Judge(Window(10), Memory(10), rule_of)
    made = event_record(entry_of(0, "u0", judge), TOPICS)
    record = Record(made.topic, 0, 0, 0, made.headers, made.value)
    answers.take([record, record])
    assert (answers.answered, answers.kinds.total()) == (1, 1)


def test_nobody_who_reads_verdicts_sees_a_backfill() -> None:
    """Verdicts and dead letters of the backfill topic lie apart, all others where they did. Break: the dead letters."""
    judge = Judge(Window(10), Memory(10), rule_of)
    for broken in (False, True):
        entry = entry_of(int(broken), f"u{broken}", judge, broken=broken)
        assert event_record(entry, TOPICS).topic == TOPICS.backfilled
        live = entry.model_copy(update={"source_topic": TOPICS.uploads})
        assert event_record(live, TOPICS).topic in {TOPICS.unique, TOPICS.deadletters}


def test_nobody_waits_for_a_backfill() -> None:
    """R13: its latency is not the users': no alert for it. Break: observe all."""
    metrics, judge = Metrics(CollectorRegistry()), Judge(Window(10), Memory(10), rule_of)
    made = fingerprint(0, random_vector(0))
    works = [Work(0, 0, made), Work(0, 1, made.model_copy(update={"source_topic": TOPICS.backfill}))]
    outcomes = [Outcome(work, entry_of(n, f"u{n}", judge)) for n, work in enumerate(works)]
    observe(metrics, outcomes, TOPICS.backfill)
    assert metrics.registry.get_sample_value("dejaview_upload_to_verdict_seconds_count") == 0
    assert uploaded_ms(works[0], TOPICS.backfill) == made.upload_timestamp_ms
    assert uploaded_ms(works[1], TOPICS.backfill) > 1e12


def test_a_live_upload_on_time_does_not_wait_for_a_fuller_batch_of_a_backfill() -> None:
    """Batches fill longer when uploads are late; a backfill always is. Break: take the oldest upload, or all."""
    now_ms = int(1000 * time.time())
    aged = [
        fingerprint(n, random_vector(n)).model_copy(update={"upload_timestamp_ms": now_ms - 5000 * n}) for n in (0, 1)
    ]
    old = aged[1].model_copy(update={"source_topic": TOPICS.backfill})
    works = [Work(0, n, record) for n, record in enumerate([*aged, old])]
    assert youngest_s(works, TOPICS.backfill) == pytest.approx(0, abs=1)
    assert youngest_s(works[1:], TOPICS.backfill) == pytest.approx(5, abs=1)
    assert youngest_s(works[2:], TOPICS.backfill) == math.inf


def test_the_backfill_topic_is_nobody_elses() -> None:
    """Else live uploads were answered where nobody looks. Break: drop the check."""
    with pytest.raises(ValidationError, match="backfilled"):
        Settings(topics={"uploads": "x", "backfill": "x"})
    own = encoding(Settings(), [Path("/photos")])
    assert own.topics.uploads == TOPICS.backfill
    assert own.kafka.group_prefix == "dejaview-backfill"
    assert own.intake.file_roots == [Path("/photos")]


def items_of(lines: Sequence[str]) -> Iterator[Item]:
    return from_addresses(lines, "t", TOPICS.backfill)


def test_addresses_have_the_id_they_are_given() -> None:
    items = list(items_of(["s3://bucket/a.jpg", "", "photo-2\ts3://bucket/b.jpg"]))
    assert [item.upload_id for item in items] == ["s3://bucket/a.jpg", "photo-2"]
    assert UploadReference.model_validate_json(items[1].record.value).uri == "s3://bucket/b.jpg"


@pytest.mark.parametrize("line", ["x" * 257, "\ts3://bucket/a", "id\t", "id\t" + "s3://" + "x" * 5_000])
def test_a_line_that_is_no_upload_is_named(line: str) -> None:
    """Break: leave it out without a word."""
    with pytest.raises(CommandError, match="line 2"):
        list(items_of(["s3://bucket/a.jpg", line]))


def test_pictures_are_read_where_they_lie(tmp_path: Path) -> None:
    """A reference each, but for names that no reference can hold. Break: everything inline."""
    for name in ("a.jpg", "50% off.png"):
        (tmp_path / name).write_bytes(b"picture")
    by_id = {item.upload_id: item.record for item in from_pictures(find_pictures([tmp_path], "name"), "t", "topic")}
    assert by_id["50% off.png"].value == b"picture"
    assert UploadReference.model_validate_json(by_id["a.jpg"].value).uri == f"file://{tmp_path}/a.jpg"
