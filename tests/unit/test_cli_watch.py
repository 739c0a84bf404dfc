"""`dejaview watch` shows every verdict and dead letter, as a row or as JSON, and nothing that steers a terminal.

Breaks that these tests catch, each tried: `json_line` without "kind"; `Follower` at librdkafka's own end (OFFSET_END).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from ops.cli.main import main
from ops.cli.views import JsonLines, LiveTable, PlainLines
from ops.cli.watch import follow
from ops.cli.watched import COLUMNS, Watched, watched_of
from schemas.cloudevents import DEAD_LETTER_TYPE, dead_letter_headers, verdict_headers
from schemas.events import DeadLetter, Evidence, Neighbour, Reason, SourcePosition, Trace, Verdict
from schemas.events import VerdictKind as Kind
from stream.config import Settings
from stream.kafka import EmbeddedBroker, Follower, LogProducer, Outgoing, Record
from tests.unit.cli_things import embedded_settings, flags_of

SOURCE = SourcePosition(topic_id="id", partition=1, offset=7)
VERDICT = Verdict(
    tenant="t",
    upload_id="cat.jpg",
    verdict=Kind.DUPLICATE,
    match=Neighbour(upload_id="old.jpg", similarity=0.9, score=0.8, verdict=Kind.UNIQUE),
    score=0.8,
    threshold=0.7,
    margin=0.1,
    confidence=0.99,
    evidence=[Evidence.PERCEPTUAL, Evidence.EMBEDDING],
    model_id="m",
    sha256="0" * 64,
    trace=Trace(source=SOURCE, source_topic="uploads", upload_timestamp_ms=10_000),
)
LETTER = DeadLetter(
    reason=Reason.BAD_IMAGE,
    detail="not a picture \x1b[2J",
    tenant="t",
    upload_id="bad\x1b.jpg",
    source=SOURCE,
    source_topic="uploads",
    upload_timestamp_ms=10_000,
    replay="dejaview replay uploads 1 7",
)


@pytest.fixture(scope="module")
def broker() -> EmbeddedBroker:
    return EmbeddedBroker()


@pytest.fixture
def settings(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Settings:
    """Topics of its own on the embedded broker."""
    return embedded_settings(broker, request.node.name.split("[")[0][-40:])


def produce(settings: Settings, *outgoing: Outgoing) -> None:
    producer = LogProducer(settings)
    producer.produce(outgoing)
    producer.flush()


def verdict_record(settings: Settings, verdict: Verdict = VERDICT) -> Outgoing:
    headers = verdict_headers(verdict, SOURCE.key, None)
    return Outgoing(settings.topics.duplicate, verdict.model_dump_json().encode(), headers)


def letter_record(settings: Settings) -> Outgoing:
    headers = dead_letter_headers(LETTER, None)
    return Outgoing(settings.topics.deadletters, LETTER.model_dump_json().encode(), headers)


def test_watch_shows_the_past_and_what_comes(settings: Settings) -> None:
    """`--from-start` sees what is there; otherwise only what is committed after the start, none of it missed."""
    produce(settings, verdict_record(settings), letter_record(settings))
    past = follow(settings, from_start=True, timeout_s=30)
    assert {next_event(past).kind for _ in range(2)} == {"verdict", "dead_letter"}
    past.close()
    now = follow(settings, from_start=False, timeout_s=60)
    assert next(now) is None
    produce(settings, verdict_record(settings, VERDICT.model_copy(update={"upload_id": "later"})))
    assert next_event(now).value["upload_id"] == "later"
    now.close()


def test_a_follower_misses_nothing_after_its_start(settings: Settings) -> None:
    """What is written right after the follower stands is read, though nothing was fetched before."""
    topic = settings.topics.duplicate
    produce(settings, verdict_record(settings))
    follower = Follower(settings, {topic: 4}, from_start=False)
    produce(settings, Outgoing(topic, b"later", partition=2))
    deadline, found = time.monotonic() + 10, list[Record]()
    while not found and time.monotonic() < deadline:
        found = follower.read(10, 0.2)
    follower.close()
    assert [record.value for record in found] == [b"later"]


def next_event(events: Iterator[Watched | None]) -> Watched:
    return next(event for event in events if event is not None)


def test_watch_prints_json_lines(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` is the event's own JSON and its kind; --count ends it, --tenant picks; too few is exit code 1."""
    other = VERDICT.model_copy(update={"tenant": "other"})
    produce(settings, verdict_record(settings), verdict_record(settings, other), letter_record(settings))
    assert (
        main(
            ["watch", "--json", "--from-start", "--count", "2", "--tenant", "t", "--timeout", "30", *flags_of(settings)]
        )
        == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_kind = {line.pop("kind"): line for line in lines}
    assert by_kind == {"verdict": VERDICT.model_dump(mode="json"), "dead_letter": LETTER.model_dump(mode="json")}
    assert main(["watch", "--from-start", "--count", "9", "--timeout", "0.5", *flags_of(settings)]) == 1


def test_watch_has_a_cell_for_every_column() -> None:
    """Rows hold time, tenant, upload, verdict, score, margin, confidence, match, evidence and latency."""
    record = Record("v", 0, 0, 10_200, verdict_headers(VERDICT, "k", None), VERDICT.model_dump_json().encode())
    event = watched_of(record, 10_250)
    assert event is not None
    row = dict(zip(COLUMNS, event.cells, strict=True))
    assert row.pop("time")[-3:] == ":10"
    assert row == {
        "tenant": "t", "upload": "cat.jpg", "verdict": "duplicate", "score": "0.800", "margin": "+0.100",
        "confidence": "0.990", "match": "old.jpg", "evidence": "perceptual embedding", "latency": "250 ms",
    }  # fmt: skip


def test_watch_never_sends_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and details come from outside: no view lets them steer a terminal."""
    headers = dead_letter_headers(LETTER, None)
    event = watched_of(Record("d", 0, 0, 10_000, headers, LETTER.model_dump_json().encode()), 10_000)
    assert event is not None
    for view in (JsonLines(), PlainLines()):
        with view:
            view.show(event)
    console = Console(width=120, record=True, highlight=False)
    with LiveTable(console) as table:
        table.show(event)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "bad_image" in printed
    assert "\x1b[2J" not in console.export_text()


def test_watch_leaves_out_what_is_no_event() -> None:
    """A foreign record on a verdict topic is no event, and no end of the watch."""
    assert watched_of(Record("v", 0, 0, 0, [], b"{}"), 0) is None
    assert watched_of(Record("v", 0, 0, 0, [("ce_type", DEAD_LETTER_TYPE.encode())], None), 0) is None
