"""`deadletters` on real Kafka and Milvus: found by reason, tenant and time; sent again once, whatever came between.

Breaks that these tests catch, each tried: `replayed_since` left out; the scan without `CLOCKS_APART_MAX_MS` before the
oldest dead letter (with a clock that is behind); copies without `REPLAY_HEADER`; the topic id not compared; one lost
original that ends the others; `since` read from the beginning and not filtered.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ops.cli import replay
from ops.cli.main import main
from ops.cli.replay import REPLAY_HEADER, Place, send_again
from ops.local.kafka import KafkaServer
from schemas.cloudevents import dead_letter_headers, upload_headers
from schemas.events import DeadLetter, Reason, SourcePosition
from stream.kafka import Admin, LogReader, Outgoing
from tests.support.deployment import Deployment, SentUpload
from tests.support.photos import jpeg, photo

pytestmark = pytest.mark.timeout(240)

Capture = pytest.CaptureFixture[str]
Create = Callable[..., Deployment]
PARTITIONS = 3


@pytest.fixture
def create(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Iterator[Create]:
    """Makes deployments; ends their workers."""
    made: list[Deployment] = []

    def one(**values: Any) -> Deployment:
        made.append(Deployment.create(tmp_path, kafka.bootstrap, milvus_uri, partitions=PARTITIONS, **values))
        return made[-1]

    yield one
    for deployment in made:
        deployment.close()


class Operator:
    """The commands, with a deployment's settings."""

    def __init__(self, deployment: Deployment, capsys: Capture) -> None:
        config = deployment.folder / "operator.yaml"
        config.write_text(yaml.safe_dump(deployment.values))
        self._option = ["--config", str(config)]
        self._capsys = capsys

    def says(self, *words: str, code: int = 0) -> str:
        """What a command prints on stdout; its exit code is as expected."""
        self._capsys.readouterr()
        ended = main(["deadletters", *words, *self._option])
        said = self._capsys.readouterr()
        assert ended == code, said
        return said.out

    def listed(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.says("list", "--json", *words).splitlines()]


def copies(deployment: Deployment) -> Counter[bytes]:
    """How often each original was sent again."""
    records = deployment.read(deployment.settings.topics.uploads)
    return Counter(value for record in records for name, value in record.headers if name == REPLAY_HEADER)


def dead_letter(deployment: Deployment, partition: int, offset: int, **changed: Any) -> Outgoing:
    """A dead letter of the upload at a place, as DECIDE writes it."""
    topics = deployment.settings.topics
    topic_id = Admin(deployment.settings).topics([topics.uploads])[topics.uploads].topic_id
    fields: dict[str, Any] = {
        "reason": Reason.URI_NOT_FOUND,
        "detail": "made by a test",
        "tenant": "t",
        "upload_id": f"u{partition}-{offset}",
        "source": SourcePosition(topic_id=topic_id, partition=partition, offset=offset),
        "source_topic": topics.uploads,
        "upload_timestamp_ms": 1,
        "replay": f"dejaview replay {topics.uploads} {partition} {offset}",
    }
    event = DeadLetter(**{**fields, **changed})
    return Outgoing(topics.deadletters, event.model_dump_json().encode(), dead_letter_headers(event, None), 0)


def filled(deployment: Deployment, count: int) -> None:
    """Uploads in partition 0, each with a dead letter; no worker is needed."""
    value = jpeg(photo("camera.png"))
    deployment.send(SentUpload(f"u0-{n}", value) for n in range(count))
    deployment.send_raw([dead_letter(deployment, 0, n) for n in range(count)])


def test_poison_is_listed_mended_and_judged_once(create: Create, capsys: Capture, tmp_path: Path) -> None:
    """Filters find what they name; once the cause is gone a replay is judged, once, and a second one sends nothing."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    deployment = create(intake={"file_roots": [str(folder)]}, tenants={"allowed": ["a", "b"]})
    worker = deployment.start("first")
    worker.wait_ready()
    good = jpeg(photo("rocket.jpg"))
    late = json.dumps({"uri": f"file://{folder}/late.jpg"}).encode()
    sent = deployment.send(
        [
            *(SentUpload(f"poison-{n}", b"<svg/>", "ab"[n % 2], n % PARTITIONS) for n in range(4)),
            *(SentUpload(f"late-{n}", late, "a", n % PARTITIONS, "application/json") for n in range(3)),
            *(SentUpload(f"unlisted-{n}", good, "c", n % PARTITIONS) for n in range(2)),
            SentUpload("good", good, "b"),
        ]
    )
    deployment.wait_judged(sent)
    operator = Operator(deployment, capsys)
    found = Counter(letter["reason"] for letter in operator.listed())
    assert found == {"unsupported_format": 4, "uri_not_found": 3, "unlisted_tenant": 2}
    of_b = operator.listed("--reason", "unsupported_format", "--reason", "uri_not_found", "--tenant", "b")
    assert {letter["upload_id"] for letter in of_b} == {"poison-1", "poison-3"}
    table = operator.says("list", "--limit", "2")
    assert "9 dead letters (the latest 2 shown; --limit): 4 unsupported_format" in table
    one = next(letter for letter in operator.listed("--reason", "uri_not_found"))
    said = operator.says("show", str(one["partition"]), str(one["offset"]))
    assert "still there" in said
    assert "ce_tenant: a" in said
    assert "late.jpg" not in said.partition("still there")[2]

    assert worker.terminate() == 0
    (folder / "late.jpg").write_bytes(jpeg(photo("chelsea.png")))
    deployment.start("second", tenants={"allowed": ["a", "b", "c"]}).wait_ready()
    mended = ("--reason", "uri_not_found", "--reason", "unlisted_tenant", "--since", "1h")
    assert "5 would be sent again" in operator.says("replay", *mended, "--dry-run")
    assert not copies(deployment)
    assert "5 sent again" in operator.says("replay", *mended)
    deployment.wait_judged(sent + 5)
    assert "0 sent again; 5 had been sent again before" in operator.says("replay", *mended)
    assert set(copies(deployment).values()) == {1}
    verdicts = Counter(verdict.upload_id for verdict in deployment.verdicts())
    assert verdicts == dict.fromkeys(["good", "late-0", "late-1", "late-2", "unlisted-0", "unlisted-1"], 1)
    assert len(deployment.dead_letters()) == 9


def test_a_replay_that_was_cut_short_sends_the_rest(create: Create, capsys: Capture) -> None:
    """Some were sent when it was killed: the next run sends the others, each original once, duplicates of it or not."""
    deployment = create()
    filled(deployment, 6)
    deployment.send_raw([dead_letter(deployment, 0, n) for n in (1, 4)])
    uploads = deployment.settings.topics.uploads
    some = send_again(deployment.settings, [Place(uploads, 0, n) for n in (0, 1, 2)])
    assert [sent.copy is not None for sent in some] == [True] * 3
    operator = Operator(deployment, capsys)
    assert "8 dead letters: 3 sent again; 3 had been sent again before" in operator.says("replay", "--all")
    assert copies(deployment) == {f"{uploads} 0 {n}".encode(): 1 for n in range(6)}
    assert "0 sent again; 6 had been" in operator.says("replay", "--all")
    assert "1 sent again" in operator.says("replay", "0", "3", "--again")
    assert copies(deployment)[f"{uploads} 0 3".encode()] == 2


def test_a_sender_whose_clock_is_behind_is_found(
    create: Create, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is older, by its own timestamp, than the dead letter it is of still counts, up to five minutes."""
    deployment = create()
    deployment.send([SentUpload("u0-0", b"x")])
    uploads = deployment.settings.topics.uploads
    deployment.send_raw([Outgoing(uploads, b"x", [(REPLAY_HEADER, f"{uploads} 0 0".encode()), ("ce_tenant", b"t")])])
    written_ms = max(record.timestamp_ms for record in deployment.read(uploads))
    while time.time_ns() // 1_000_000 <= written_ms:
        """The dead letter is of a later millisecond."""
    deployment.send_raw([dead_letter(deployment, 0, 0)])
    operator = Operator(deployment, capsys)
    assert "0 sent again; 1 had been sent again before" in operator.says("replay", "--all")
    monkeypatch.setattr(replay, "CLOCKS_APART_MAX_MS", 0)
    assert "1 would be sent again" in operator.says("replay", "--all", "--dry-run")


def test_another_tenants_header_holds_nothing_back(create: Create, capsys: Capture) -> None:
    """Anybody may send the header: in another tenant's upload it does not keep the original from being sent."""
    deployment = create()
    filled(deployment, 1)
    uploads = deployment.settings.topics.uploads
    forged = upload_headers("x", "attacker", "image/jpeg", "/")
    deployment.send_raw([Outgoing(uploads, b"x", [*forged, (REPLAY_HEADER, f"{uploads} 0 0".encode())])])
    assert "1 sent again" in Operator(deployment, capsys).says("replay", "--all")


def test_a_forged_header_of_the_same_tenant_is_counted_and_overruled(create: Create, capsys: Capture) -> None:
    """Whoever may send in the upload's own tenant can make it look sent again: it is left out, which the summary says,
    and `--again` sends it. Break, tried: `--again` that still leaves out what has a copy.
    """
    deployment = create()
    filled(deployment, 1)
    uploads = deployment.settings.topics.uploads
    forged = upload_headers("x", "t", "image/jpeg", "/")
    deployment.send_raw([Outgoing(uploads, b"x", [*forged, (REPLAY_HEADER, f"{uploads} 0 0".encode())])])
    operator = Operator(deployment, capsys)
    assert "0 sent again; 1 had been sent again before" in operator.says("replay", "--all")
    assert "1 sent again" in operator.says("replay", "--all", "--again")


def test_what_is_gone_is_said_and_the_rest_is_sent(create: Create, capsys: Capture) -> None:
    """Exit 1 where retention was faster, or the topic is another one now; what is no upload is left out and said."""
    deployment = create()
    filled(deployment, 4)
    topics = deployment.settings.topics
    deployment.send_raw(
        [
            dead_letter(deployment, 0, 3, source=SourcePosition(topic_id="of-before", partition=0, offset=2)),
            dead_letter(deployment, 0, 0, source_topic=topics.fingerprints, reason=Reason.BAD_FINGERPRINT),
        ]
    )
    place = TopicPartition(topics.uploads, 0, 2)
    admin = AdminClient({"bootstrap.servers": deployment.settings.kafka.bootstrap_servers})
    admin.delete_records([place])[place].result(20)
    operator = Operator(deployment, capsys)
    said = operator.says("replay", "--all", code=1)
    assert f"{topics.uploads} 0 0: retention has deleted this record" in said
    assert f"{topics.uploads} 0 2: gone, the topic was created anew since" in said
    assert "6 dead letters: 2 sent again; 3 could not be; 1 left out, about records of " in said
    assert set(copies(deployment)) == {f"{topics.uploads} 0 {n}".encode() for n in (2, 3)}
    assert "original is    gone: " in operator.says("show", "0", "0")
    assert "created anew" in operator.says("show", "0", "4")
    assert "1 left out" in operator.says("replay", "0", "5", code=1)
    assert operator.says("show", "0", "99", code=1) == ""
    assert operator.says("show", "77", "0", code=1) == ""


def test_since_begins_at_its_time(create: Create, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--since` reads from that time on, not from the beginning; `--until` ends there."""
    deployment = create()
    operator = Operator(deployment, capsys)
    filled(deployment, 3)
    first_ms = max(letter["timestamp_ms"] for letter in operator.listed())
    while time.time_ns() // 1_000_000 <= first_ms:
        """The next ones are of a later millisecond."""
    filled(deployment, 2)
    assert len(operator.listed("--until", iso(first_ms))) == 3
    started: list[int] = []
    start = LogReader.start

    def noted(reader: LogReader, partition: int, offset: int) -> None:
        started.append(offset)
        start(reader, partition, offset)

    monkeypatch.setattr(LogReader, "start", noted)
    assert len(operator.listed("--since", iso(first_ms + 1))) == 2
    assert started == [3]


def iso(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds")


def test_nothing_is_sent_that_the_broker_does_not_take(create: Create, capsys: Capture) -> None:
    """An upload that with its header is above the record limit is said, and the others are sent."""
    deployment = create()
    limit = deployment.settings.topics.message_bytes_max
    deployment.send([SentUpload("u0-0", b"x" * (limit - 400)), SentUpload("u0-1", b"x")])
    deployment.send_raw([dead_letter(deployment, 0, n) for n in range(2)])
    said = Operator(deployment, capsys).says("replay", "--all", code=1)
    assert "topics.message_bytes_max" in said
    assert "1 sent again; 1 could not be" in said
