"""The demo's traffic is bounded, and every upload is either answered once or reported as lost.

Breaks that these tests catch, each tried: `IN_FLIGHT_MAX` left out of `Traffic.run`; an answered upload left
pending; the stall clock never looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import pytest

from ops.demo.traffic import IN_FLIGHT_MAX, STALL_S, TENANT, Answer, Traffic, answer_of, event_of
from ops.demo.uploads import Kind, Upload
from schemas.cloudevents import dead_letter_headers, read_upload, verdict_headers
from schemas.events import UploadReference, VerdictKind
from stream.errors import StageStopped
from stream.kafka import Outgoing, Record
from tests.unit.demo_things import dead_letter, upload, verdict

TOPIC = "dejaview.uploads"


class Platform:
    """A broker and a judge in one: answers what `answers` says, `batch` at a time; its clock moves when read."""

    def __init__(
        self, uploads: Sequence[Upload], answers: Callable[[Upload, int], list[Answer]], batch: int = 7
    ) -> None:
        self._uploads = list(uploads)
        self._answers = answers
        self._batch = batch
        self._sent = 0
        self._waiting: deque[Answer] = deque()
        self.unanswered = 0
        self.unanswered_max = 0
        self.now_s = 1000.0
        self.heard: list[tuple[Upload, Answer, float]] = []

    def produce(self, records: Iterable[Outgoing]) -> None:
        for record in records:
            record.partition, record.offset = 0, self._sent
            self._waiting.extend(self._answers(self._uploads[self._sent], self._sent))
            self._sent += 1
            self.unanswered += 1
        self.unanswered_max = max(self.unanswered_max, self.unanswered)

    def flush(self) -> None:
        """All is there at once."""

    def take(self) -> list[Answer]:
        self.now_s += 1.0
        return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]

    def on_answer(self, of: Upload, answer: Answer, latency_s: float) -> None:
        self.unanswered -= 1
        self.heard.append((of, answer, latency_s))

    def run(self, check: Callable[[], None] = lambda: None) -> list[Upload]:
        traffic = Traffic(TOPIC, self, self, self.on_answer, check, clock=lambda: self.now_s)
        return traffic.run(self._uploads)


def copies(count: int) -> list[Upload]:
    return [upload("cat.png", Kind.EDITED, f"edit {n}") for n in range(count)]


def unique(of: Upload, offset: int) -> list[Answer]:
    return [verdict(of, VerdictKind.UNIQUE, offset=offset, sent_ms=1_000_000)]


def test_no_more_than_the_bound_are_in_flight_and_all_are_answered() -> None:
    uploads = copies(5 * IN_FLIGHT_MAX)
    platform = Platform(uploads, unique)
    assert platform.run() == []
    assert platform.unanswered_max == IN_FLIGHT_MAX
    assert [of for of, _, _ in platform.heard] == uploads


def test_latency_counts_from_the_records_timestamp() -> None:
    platform = Platform(copies(1), unique)
    platform.run()
    assert [latency_s for _, _, latency_s in platform.heard] == [1.0]


def test_the_same_upload_sent_twice_is_two_answers() -> None:
    platform = Platform([upload(), upload(kind=Kind.REPEAT)], unique)
    assert platform.run() == []
    assert [of.kind for of, _, _ in platform.heard] == [Kind.ORIGINAL, Kind.REPEAT]


def test_an_answer_delivered_twice_counts_once() -> None:
    platform = Platform(copies(3), lambda of, offset: unique(of, offset) * 2)
    assert platform.run() == []
    assert len(platform.heard) == 3


def test_what_is_never_answered_is_lost_and_said_so() -> None:
    uploads = copies(4)
    platform = Platform(uploads, lambda of, offset: [] if offset == 2 else unique(of, offset))
    assert platform.run() == [uploads[2]]
    assert platform.now_s > 1000 + STALL_S


def test_a_stage_that_ended_ends_the_traffic() -> None:
    def ended() -> None:
        raise StageStopped("decide ended")

    with pytest.raises(StageStopped, match="decide ended"):
        Platform(copies(1), lambda _of, _offset: []).run(ended)


def test_the_event_is_one_that_dejaview_reads() -> None:
    sent = upload()
    event = event_of(sent, TOPIC)
    read = read_upload(event.headers, event.value)
    assert read.upload_id == sent.upload_id
    assert read.content == UploadReference(uri="file:///nowhere/00001.jpg", sha256=sent.sha256)
    assert ("ce_tenant", TENANT.encode()) in event.headers


def test_verdicts_and_dead_letters_are_told_apart() -> None:
    said, letter = verdict(upload(), VerdictKind.UNIQUE), dead_letter()
    records = [
        Record("t", 0, 0, 0, verdict_headers(said, "event", None), said.model_dump_json().encode()),
        Record("t", 0, 1, 0, dead_letter_headers(letter, None), letter.model_dump_json().encode()),
    ]
    assert [answer_of(record) for record in records] == [said, letter]
