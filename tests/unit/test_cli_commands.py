"""The commands do what they say: `send`'s records, `replay`, `topics`, and the messages of wrong command lines.

Breaks that these tests catch, each tried: references quoted (`as_uri`); ids from absolute paths; a replay that keeps an
earlier `dejaview_replay_of`.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from ops.cli.errors import CommandError
from ops.cli.main import COMMANDS, main
from ops.cli.pictures import find_pictures
from ops.cli.replay import REPLAY_HEADER, fetch, replayed
from ops.cli.send import INLINE_BYTES_MAX, records
from ops.cli.topics import FINGERPRINTS_RETENTION_MS, State, differences, planned
from schemas.cloudevents import read_upload
from schemas.events import UploadReference
from stream.config import Settings, TopicSettings
from stream.kafka import EmbeddedBroker, Record
from tests.unit.cli_things import embedded_settings, flags_of


@pytest.fixture(scope="module")
def broker() -> EmbeddedBroker:
    return EmbeddedBroker()


@pytest.fixture
def settings(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Settings:
    """Topics of its own on the embedded broker."""
    return embedded_settings(broker, request.node.name.split("[")[0][-40:])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Files by name only: `send` does not look into them."""
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.JPG", "deeper/a b.png", "c.webp", "d.gif", "e.jpeg"):
        (folder / name).write_bytes(name.encode())
    (folder / "notes.txt").write_text("no picture")
    return folder


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
    pictures: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `send` counted is on the topic; `replay` adds the same event and where it came from."""
    assert main(["send", str(pictures / "b.JPG"), "--tenant", "t-1", *flags_of(settings)]) == 0
    assert "sent 1 uploads of tenant t-1" in capsys.readouterr().out
    topic = settings.topics.uploads
    places = [(p, place(settings, topic, p)) for p in range(4)]
    ((partition, sent),) = [(p, record) for p, record in places if record is not None]
    assert main(["replay", topic, str(partition), "0", *flags_of(settings)]) == 0
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


def test_replay_says_when_there_is_no_record(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """An offset that is not there yet and a partition that does not exist are said so."""
    assert main(["replay", settings.topics.uploads, "0", "5", *flags_of(settings)]) == 1
    assert "no such record yet" in capsys.readouterr().err
    assert main(["replay", settings.topics.uploads, "77", "0", *flags_of(settings)]) == 1
    assert "has 4 partitions" in capsys.readouterr().err


def test_a_replay_of_a_replay_names_one_source() -> None:
    """The header of an earlier replay is replaced: headers do not grow."""
    record = Record("uploads", 2, 5, 0, [("ce_id", b"x"), (REPLAY_HEADER, b"uploads 1 1")], b"v")
    assert replayed(record, "u").headers == [("ce_id", b"x"), (REPLAY_HEADER, b"uploads 2 5")]


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
