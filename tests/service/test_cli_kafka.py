"""The commands on real servers: topics, a run, a send, a watch and a replay; and what each says when it cannot.

Breaks that these tests catch, each tried: `planned` without the ledger's retention; topics created under other names;
`replayed` without the record's headers; `fetch` without the question whether retention has passed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from pymilvus import MilvusClient

from models.model import load_model
from ops.cli.main import main
from ops.local.kafka import KafkaServer
from stream.config import Settings
from stream.kafka import Admin, LogProducer, Outgoing
from stream.neighbours.milvus import collection
from tests.support.deployment import ROOT, Deployment
from tests.support.photos import edited, jpeg, photo

pytestmark = pytest.mark.timeout(240)

NAMES = ("uploads", "fingerprints", "ledger", "unique", "duplicate", "review", "deadletters")
RUN_ENDS_S = 60.0

Capture = pytest.CaptureFixture[str]
Configure = Callable[..., Path]


@pytest.fixture
def configure(kafka: KafkaServer, milvus_uri: str, tmp_path: Path) -> Configure:
    """Writes a settings file with names of its own; nothing is created."""

    def one(**values: Any) -> Path:
        tag = f"c{uuid.uuid4().hex[:10]}"
        merged = {
            **values,
            "kafka": {"bootstrap_servers": kafka.bootstrap, "group_prefix": tag},
            "topics": {name: f"{tag}.{name}" for name in NAMES} | {"partitions": 3} | values.get("topics", {}),
            "index": {"uri": milvus_uri, "collection": tag, "index_type": "FLAT"},
            "health": values.get("health", {"port": 0}),
        }
        file = tmp_path / f"{tag}.yaml"
        file.write_text(yaml.safe_dump(merged))
        return file

    return one


def settings_of(config: Path) -> Settings:
    return Settings(**yaml.safe_load(config.read_text()))


def dejaview(*words: str) -> tuple[int, str]:
    """A command in a process of its own that is expected to end; its exit code and what it said on stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=RUN_ENDS_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return ended.returncode, ended.stderr


def test_topics_are_created_once_and_described(configure: Configure, capsys: Capture) -> None:
    """`topics create` twice creates once; the ledger is kept without limit; `describe` shows what is there."""
    config = configure()
    topics = settings_of(config).topics
    assert main(["topics", "describe", "--config", str(config)]) == 1
    assert f"missing: {topics.uploads}" in capsys.readouterr().err
    assert main(["topics", "create", "--config", str(config)]) == 0
    first = capsys.readouterr()
    assert first.out.count("created: 3 partitions") == 7
    assert first.err == ""
    assert main(["topics", "create", "--config", str(config)]) == 0
    assert capsys.readouterr().out.count("existed") == 7
    assert main(["topics", "describe", "--config", str(config)]) == 0
    assert "604800000" in capsys.readouterr().out
    found = Admin(settings_of(config)).describe_configs([topics.ledger, topics.uploads])
    assert found[topics.ledger]["retention.ms"] == found[topics.ledger]["retention.bytes"] == "-1"
    assert found[topics.uploads]["max.message.bytes"] == str(topics.message_bytes_max)


def test_topics_that_differ_are_left_and_warned_of(configure: Configure, capsys: Capture) -> None:
    """Existing topics are never changed; a wrong count and a ledger that forgets are said, and `run` refuses."""
    config = configure()
    settings = settings_of(config)
    Admin(settings).create(settings.topics.ledger, 5, 1, {"retention.ms": "1000000"})
    assert main(["topics", "create", "--config", str(config)]) == 0
    warned = capsys.readouterr().err
    assert f"{settings.topics.fingerprints} has 3 partitions and {settings.topics.ledger} has 5" in warned
    assert "retention.ms is 1000000" in warned
    code, said = dejaview("run", "--config", str(config))
    assert code == 1
    assert f"{settings.topics.fingerprints} has 3 partitions and {settings.topics.ledger} has 5" in said
    assert "Traceback" not in said


def test_from_files_to_verdicts_and_back(configure: Configure, tmp_path: Path, capsys: Capture) -> None:
    """Five pictures and a broken file: `send`, `watch` and the dead letter's own `replay` command work on a `run`."""
    config = configure(intake={"file_roots": [str(tmp_path)]})
    settings = settings_of(config)
    option = ["--config", str(config)]
    assert main(["topics", "create", *option]) == 0
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        (folder / f"{Path(name).stem}.jpg").write_bytes(jpeg(photo(name)))
    (folder / "rocket-again.jpg").write_bytes(edited("rocket.jpg", "jpeg_10", 1))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    deployment = Deployment(tmp_path, settings, yaml.safe_load(config.read_text()))
    try:
        deployment.start("cli").wait_ready()
        assert main(["send", str(folder), "--tenant", "t", *option]) == 0
        capsys.readouterr()
        assert main(["watch", "--json", "--count", "5", "--from-start", "--timeout", "60", *option]) == 0
        seen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {event["upload_id"] for event in seen} == {file.name for file in folder.iterdir()}
        assert {event["kind"] for event in seen} == {"verdict"}
        assert sorted(event["verdict"] for event in seen) == ["duplicate", *["unique"] * 4]
        assert main(["send", str(tmp_path / "broken.jpg"), "--reference", "--tenant", "t", *option]) == 0
        letter = dead_letters(option, 1, capsys)[0]
        assert letter["upload_id"] == "broken.jpg"
        program, *command = letter["replay"].split()
        assert program == "dejaview"
        assert main([*command, *option]) == 0
        again = dead_letters(option, 2, capsys)
        assert {found["reason"] for found in again} == {letter["reason"]}
        assert len({json.dumps(found["source"]) for found in again}) == 2
        assert "dejaview_replay_of" in {name for found in again for name in found["headers"]}
    finally:
        deployment.close()


def dead_letters(option: list[str], count: int, capsys: Capture) -> list[dict[str, Any]]:
    """The dead letters, once all five verdicts and this many of them are there."""
    capsys.readouterr()
    assert main(["watch", "--json", "--count", str(5 + count), "--from-start", "--timeout", "60", *option]) == 0
    seen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [event for event in seen if event["kind"] == "dead_letter"]


@pytest.mark.parametrize("command", ["run", "send PICTURE", "watch", "replay TOPIC 0 0"])
def test_a_missing_topic_names_the_command_that_makes_it(
    configure: Configure, tmp_path: Path, capsys: Capture, command: str
) -> None:
    """Without topics each command names them and `dejaview topics create`; none is made on the way."""
    config = configure()
    uploads = settings_of(config).topics.uploads
    (tmp_path / "a.jpg").write_bytes(b"x")
    words = command.replace("PICTURE", str(tmp_path / "a.jpg")).replace("TOPIC", uploads).split(" ")
    assert main([*words, "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert "dejaview topics create" in said
    assert uploads.partition(".")[0] in said
    assert not Admin(settings_of(config)).existing([uploads])


def test_an_expired_record_is_not_replayed(configure: Configure, capsys: Capture) -> None:
    """A record that is no more, or not yet, is said so, and nothing is sent."""
    config = configure()
    assert main(["topics", "create", "--config", str(config)]) == 0
    settings = settings_of(config)
    uploads = settings.topics.uploads
    producer = LogProducer(settings)
    producer.produce([Outgoing(uploads, b"x", partition=0) for _ in range(3)])
    producer.flush()
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    admin.delete_records([TopicPartition(uploads, 0, 2)])[TopicPartition(uploads, 0, 2)].result(20)
    assert main(["replay", uploads, "0", "1", "--config", str(config)]) == 1
    assert "retention has deleted this record; the first that is left is 2" in capsys.readouterr().err
    assert main(["replay", uploads, "0", "3", "--config", str(config)]) == 1
    assert "no such record yet" in capsys.readouterr().err
    assert main(["replay", uploads, "0", "2", "--config", str(config)]) == 0


def test_a_collection_of_another_dimension_is_refused(configure: Configure, capsys: Capture) -> None:
    """`run` ends with the collection's name, what differs and what to do, when another program made it."""
    config = configure()
    settings = settings_of(config)
    assert main(["topics", "create", "--config", str(config)]) == 0
    capsys.readouterr()
    model_id = load_model(settings.model.weights).model_id
    name = collection.collection_name(settings.index, model_id)
    client = MilvusClient(settings.index.uri, timeout=10)
    collection.create(client, name, settings.index, model_id, 128, timeout_s=10)
    collection.create_vector_index(client, name, settings.index, timeout_s=10)
    code, said = dejaview("run", "--stage", "index", "--config", str(config))
    client.close()
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"dejaview: collection {name}")
    assert "128" in last
    assert "index.collection" in last


def test_a_taken_port_is_named(configure: Configure) -> None:
    """`run` ends with the setting and the address when health.port is another program's."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = configure(health={"port": taken.getsockname()[1]})
        assert main(["topics", "create", "--config", str(config)]) == 0
        code, said = dejaview("run", "--config", str(config))
    assert code == 2
    assert f"health.port {taken_port(config)}" in said
    assert "Traceback" not in said


def taken_port(config: Path) -> int:
    return settings_of(config).health.port
