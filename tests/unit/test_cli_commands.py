"""The commands do what they say: `send`'s records, `watch`'s rows, `replay` and the messages of wrong command lines.

Breaks that these tests catch, each tried: references quoted (`as_uri`); ids from absolute paths; `json_line` without
"kind"; `Follower` at librdkafka's own end (OFFSET_END); a replay that keeps an earlier `dejaview_replay_of`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ops.cli.errors import CommandError
from ops.cli.main import COMMANDS, main
from ops.cli.pictures import find_pictures
from ops.cli.replay import REPLAY_HEADER, fetch, replayed
from ops.cli.send import INLINE_BYTES_MAX, records
from ops.cli.topics import FINGERPRINTS_RETENTION_MS, State, differences, planned
from ops.cli.views import JsonLines, LiveTable, PlainLines
from ops.cli.watch import follow
from ops.cli.watched import COLUMNS, Watched, watched_of
from schemas.cloudevents import DEAD_LETTER_TYPE, dead_letter_headers, read_upload, verdict_headers
from schemas.events import DeadLetter, Evidence, Neighbour, Reason, SourcePosition, Trace, UploadReference, Verdict
from schemas.events import VerdictKind as Kind
from stream.config import KafkaSettings, Settings, TopicSettings
from stream.kafka import Admin, EmbeddedBroker, Follower, LogProducer, Outgoing, Record

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
    tag = request.node.name.split("[")[0][-40:]
    names = ("uploads", "fingerprints", "ledger", "unique", "duplicate", "review", "deadletters")
    found = Settings(
        kafka=KafkaSettings(bootstrap_servers=broker.bootstrap_servers),
        topics=TopicSettings(**{name: f"{tag}.{name}" for name in names}),
    )
    Admin(found, embedded=True).topics([f"{tag}.{name}" for name in names])
    return found


@pytest.fixture
def flags(settings: Settings) -> list[str]:
    topics = settings.topics
    return [
        f"--kafka.bootstrap_servers={settings.kafka.bootstrap_servers}",
        *(f"--topics.{name}={getattr(topics, name)}" for name in ("uploads", "unique", "duplicate", "review")),
        f"--topics.deadletters={topics.deadletters}",
    ]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Files by name only: `send` does not look into them."""
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.JPG", "deeper/a b.png", "c.webp", "d.gif", "e.jpeg"):
        (folder / name).write_bytes(name.encode())
    (folder / "notes.txt").write_text("no picture")
    return folder


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


def test_send_makes_readable_upload_events(pictures: Path) -> None:
    """Every image file of a folder becomes one event with its bytes, its type and its relative name."""
    made = [read_upload(r.headers, r.value) for r in records(find_pictures([pictures], "name"), "t", "by_size", "u")]
    names = ["b.JPG", "c.webp", "d.gif", "deeper/a b.png", "e.jpeg"]
    assert [upload.upload_id for upload in made] == names
    assert [upload.content for upload in made] == [name.encode() for name in names]
    types = {dict(r.headers)["content-type"] for r in records(find_pictures([pictures], "name"), "t", "inline", "u")}
    assert types == {b"image/jpeg", b"image/png", b"image/webp", b"image/gif"}


def test_send_takes_references_above_900_kb(pictures: Path) -> None:
    """A large file travels as a file:// reference, unquoted as intake wants it; --inline and --reference overrule."""
    found = [p for p in find_pictures([pictures], "name") if p.upload_id == "deeper/a b.png"]
    large = [replace(found[0], byte_count=INLINE_BYTES_MAX + 1)]
    (by_size,) = records(large, "t", "by_size", "u")
    reference = UploadReference(uri=f"file://{pictures}/deeper/a b.png")
    assert read_upload(by_size.headers, by_size.value).content == reference
    (inline,) = records(large, "t", "inline", "u")
    assert isinstance(read_upload(inline.headers, inline.value).content, bytes)
    (small,) = records(found, "t", "reference", "u")
    assert read_upload(small.headers, small.value).content == reference


def test_send_gives_no_two_files_one_id(pictures: Path) -> None:
    """The same relative name twice is refused, not sent as an id conflict; random ids do not clash."""
    with pytest.raises(CommandError, match="--ids random"):
        find_pictures([pictures, pictures], "name")
    assert len({picture.upload_id for picture in find_pictures([pictures, pictures], "random")}) == 10


@pytest.mark.parametrize(
    ("path", "message"),
    [("absent", "no such file or folder"), ("pictures/notes.txt", "not an image file"), ("empty", "no image files")],
)
def test_send_names_a_path_without_images(
    pictures: Path, tmp_path: Path, path: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that holds nothing to send is an error that names it, before any broker is asked."""
    (tmp_path / "empty").mkdir()
    assert main(["send", str(pictures), str(tmp_path / path), "--kafka.bootstrap_servers=127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert str(tmp_path / path) in said


def test_send_refuses_what_no_record_holds(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file above topics.message_bytes_max is named before anything is sent."""
    assert main(["send", str(pictures), "--inline", "--topics.message_bytes_max=10"]) == 1
    assert "topics.message_bytes_max" in capsys.readouterr().err


def test_send_and_replay_through_a_broker(
    pictures: Path, settings: Settings, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What `send` counted is on the topic; `replay` adds the same event and where it came from."""
    assert main(["send", str(pictures / "b.JPG"), "--tenant", "t-1", *flags]) == 0
    assert "sent 1 uploads of tenant t-1" in capsys.readouterr().out
    topic = settings.topics.uploads
    places = [(p, place(settings, topic, p)) for p in range(4)]
    ((partition, sent),) = [(p, record) for p, record in places if record is not None]
    assert main(["replay", topic, str(partition), "0", *flags]) == 0
    again = capsys.readouterr().out.split()
    copy = fetch(settings, topic, int(again[-2]), int(again[-1]))
    assert copy.value == sent.value == b"b.JPG"
    assert [header for header in copy.headers if header[0] != REPLAY_HEADER] == sent.headers
    assert dict(copy.headers)[REPLAY_HEADER] == f"{topic} {partition} 0".encode()


def place(settings: Settings, topic: str, partition: int) -> Record | None:
    try:
        return fetch(settings, topic, partition, 0)
    except CommandError:
        return None


def test_replay_says_when_there_is_no_record(
    settings: Settings, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An offset that is not there yet and a partition that does not exist are said so."""
    assert main(["replay", settings.topics.uploads, "0", "5", *flags]) == 1
    assert "no such record yet" in capsys.readouterr().err
    assert main(["replay", settings.topics.uploads, "77", "0", *flags]) == 1
    assert "has 4 partitions" in capsys.readouterr().err


def test_a_replay_of_a_replay_names_one_source() -> None:
    """The header of an earlier replay is replaced: headers do not grow."""
    record = Record("uploads", 2, 5, 0, [("ce_id", b"x"), (REPLAY_HEADER, b"uploads 1 1")], b"v")
    assert replayed(record, "u").headers == [("ce_id", b"x"), (REPLAY_HEADER, b"uploads 2 5")]


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


def test_watch_prints_json_lines(settings: Settings, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` is the event's own JSON and its kind; --count ends it, --tenant picks; too few is exit code 1."""
    other = VERDICT.model_copy(update={"tenant": "other"})
    produce(settings, verdict_record(settings), verdict_record(settings, other), letter_record(settings))
    assert main(["watch", "--json", "--from-start", "--count", "2", "--tenant", "t", "--timeout", "30", *flags]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_kind = {line.pop("kind"): line for line in lines}
    assert by_kind == {"verdict": VERDICT.model_dump(mode="json"), "dead_letter": LETTER.model_dump(mode="json")}
    assert main(["watch", "--from-start", "--count", "9", "--timeout", "0.5", *flags]) == 1


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


def test_topics_are_planned_for_keeping() -> None:
    """The ledger is kept without limit, fingerprints a week, uploads take large records; two in sync of three."""
    topics = TopicSettings(replication_factor=3, unique="v", duplicate="v", review="v")
    plan = planned(topics)
    assert list(plan) == [topics.uploads, topics.fingerprints, topics.ledger, "v", topics.deadletters]
    assert plan[topics.ledger].items() >= {"retention.ms": "-1", "retention.bytes": "-1"}.items()
    assert plan[topics.ledger]["cleanup.policy"] == "delete"
    assert plan[topics.fingerprints]["retention.ms"] == str(FINGERPRINTS_RETENTION_MS)
    assert plan[topics.uploads]["max.message.bytes"] == str(topics.message_bytes_max)
    assert all(config["min.insync.replicas"] == "2" for config in plan.values())
    assert "min.insync.replicas" not in planned(TopicSettings())["dejaview.ledger"]


def test_topics_that_differ_are_warned_of() -> None:
    """Different partition counts, a ledger that forgets and a low record limit are each said with what to do."""
    topics = TopicSettings(partitions=4)
    ledger = {"retention.ms": "604800000", "retention.bytes": "-1", "cleanup.policy": "compact"}
    configs = {topics.ledger: ledger, topics.uploads: {"max.message.bytes": "1048588"}}
    counts = {topics.fingerprints: 4, topics.ledger: 8, topics.uploads: 4}
    said = "\n".join(differences(topics, State(counts, configs)))
    assert "dejaview.fingerprints has 4 partitions and dejaview.ledger has 8" in said
    assert "dejaview.ledger: retention.ms is 604800000" in said
    assert "dejaview.ledger: cleanup.policy is compact" in said
    assert "max.message.bytes is 1048588" in said
    right = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
    assert not differences(topics, State({topics.ledger: 4, topics.fingerprints: 4}, {topics.ledger: right}))


@pytest.mark.parametrize("command", ["topics create", "send PICTURES", "watch", "replay dejaview.uploads 0 0", "run"])
def test_without_a_broker_each_command_says_so(
    command: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing at kafka.bootstrap_servers the message names the setting and the address."""
    with socket.socket() as closed:  # bound and not listening: nobody else can take it meanwhile
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        words = command.replace("PICTURES", str(pictures)).split(" ")
        waits = ["--kafka.request_timeout_s=1", "--kafka.transaction_timeout_s=1"]
        assert main([*words, f"--kafka.bootstrap_servers={address}", *waits]) == 1
    said = capsys.readouterr().err
    assert "kafka.bootstrap_servers" in said
    assert address in said


def test_wrong_command_lines_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option is named without its value; wrong values exit with 2; every command has a help."""
    assert main(["watch", "--tokn=hunter2"]) == 2
    said = capsys.readouterr().err
    assert "--tokn" in said
    assert "hunter2" not in said
    for words in (["send"], ["send", "x", "--tenant", "a/b"], ["send", "x", "--rate", "0"], ["replay", "t", "0", "-1"]):
        assert main(words) == 2
    for words in (["watch", "--count", "0"], ["watch", "--timeout", "nan"], ["topics", "delete"], ["nothing"]):
        assert main(words) == 2
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
