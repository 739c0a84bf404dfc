"""No secret and no picture leaves through a dump, a message, a log line, /readyz or /metrics.

Breaks, each tried: `repr=False` off `kafka.options` or `index.uri`; `without_user_info` out of `_doing`; its mask up to
the first @; `hide_input_in_errors` off `Section`; `oauthbearer` out of `_SECRET_OPTION`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaError
from pydantic import BaseModel, ValidationError

from ops.cli.main import main
from ops.cli.settings import load_settings
from stream.config import IndexSettings, IntakeSettings, KafkaSettings, Settings
from stream.errors import BrokerUnavailable, DejaviewError, NotPermitted, SettingError
from stream.intake.fetch import Fetcher
from stream.kafka import Admin
from stream.kafka.client import Heard
from stream.neighbours.milvus.failures import translate
from stream.neighbours.milvus.index import MilvusIndex
from stream.uris import is_address, without_user_info
from tests.support.secured import KAFKA_RIGHTS, MILVUS_RIGHTS

MARK = "mArKeR7391"
ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:9"

SECRET_OPTIONS = {
    "sasl.password": MARK,
    "ssl.key.password": MARK,
    "ssl.key.pem": f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----",
    "ssl.keystore.password": MARK,
    "sasl.oauthbearer.client.secret": MARK,
    "sasl.oauthbearer.config": f"secret={MARK}",
    "sasl.jaas.config": f'required username="u" password="{MARK}";',
}
VALUES: dict[str, Any] = {
    "kafka": {"bootstrap_servers": NOBODY, "options": SECRET_OPTIONS, "consumer_options": SECRET_OPTIONS},
    "index": {"uri": f"http://root:{MARK}@{NOBODY}", "token": MARK},
    "intake": {"s3_endpoint": f"https://key:{MARK}@store", "s3_access_key_id": MARK, "s3_secret_access_key": MARK},
}
ENVIRONMENT = {
    "DEJAVIEW_KAFKA__OPTIONS": json.dumps(SECRET_OPTIONS),
    "DEJAVIEW_KAFKA__PRODUCER_OPTIONS": json.dumps(SECRET_OPTIONS),
    "DEJAVIEW_INDEX__TOKEN": MARK,
    "DEJAVIEW_INDEX__URI": f"http://root:{MARK}@{NOBODY}",
    "DEJAVIEW_INTAKE__S3_ENDPOINT": f"https://key:{MARK}@store",
    "DEJAVIEW_INTAKE__S3_ACCESS_KEY_ID": MARK,
    "DEJAVIEW_INTAKE__S3_SECRET_ACCESS_KEY": MARK,
}
WRONG = (
    "health: {port: 99999}",
    "delivery: maybe",
    "index: {search_ef: 1}",
    "kafka: {options: {group.id: x}}",
    "kafak: {}",
)

Capture = pytest.CaptureFixture[str]


def chain(error: BaseException) -> str:
    """An exception and what it came from, as text and as repr: what a traceback would show."""
    text, cause = "", error
    seen: BaseException | None = cause
    while seen is not None:
        text += f"{seen}\n{seen!r}\n"
        seen = seen.__cause__
    return text


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "dejaview.yaml"
    file.write_text(yaml.safe_dump(VALUES))
    return file


@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]], ids=["table", "json", "markdown"])
@pytest.mark.parametrize("source", ["file", "environment"])
def test_the_dumps_hold_no_secret(
    config: Path, form: list[str], source: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dejaview config` in every form, with every secret set in the file or in the environment."""
    if source == "environment":
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
    assert main(["config", *form, *(["--config", str(config)] if source == "file" else [])]) == 0
    shown = capsys.readouterr()
    assert MARK not in shown.out + shown.err


def test_no_repr_holds_a_secret() -> None:
    """Nor does a repr or str of the settings, of a section, or of one setting."""
    settings = Settings(**VALUES)
    sections = [settings, *(value for _, value in settings if isinstance(value, BaseModel))]
    fields = [value for section in sections for _, value in section if not isinstance(value, BaseModel | dict | str)]
    for value in (*sections, *fields):
        assert MARK not in f"{value}{value!r}"


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_beside_a_secret_does_not_show_it(tmp_path: Path, wrong: str) -> None:
    """A wrong setting is named; the secrets of its section, of its file and of the environment are not."""
    other = tmp_path / "wrong.yaml"
    ((section, mistake),) = yaml.safe_load(wrong).items()
    values = {**VALUES, section: {**VALUES.get(section, {}), **mistake} if isinstance(mistake, dict) else mistake}
    other.write_text(yaml.safe_dump(values))
    with pytest.raises(SettingError) as caught:
        load_settings(other, (), ENVIRONMENT)
    assert MARK not in chain(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Settings(**VALUES, health={"port": 99_999}),
        lambda: IndexSettings(**VALUES["index"], search_ef=1),
        lambda: IntakeSettings(**VALUES["intake"], bytes_max=MARK),
        lambda: KafkaSettings(options={"sasl.password": {"nested": MARK}}),
        lambda: KafkaSettings(bootstrap_servers=f"user:{MARK}@broker:9092"),
        lambda: IndexSettings(uri=f"root:{MARK}@milvus:19530"),
        lambda: IndexSettings(uri=f"https://root:{MARK}/x@milvus:19530"),
        lambda: IntakeSettings(s3_endpoint=f"https://key:{MARK}/x@store"),
    ],
)
def test_no_validation_error_holds_a_secret(build: Callable[[], object]) -> None:
    """Built in Python, too, where no command words the message."""
    with pytest.raises(ValidationError) as caught:
        build()
    assert MARK not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://root:pw@h:1", "http://***@h:1"),
        ("http://root:p@w@h:1", "http://***@h:1"),
        ("http://root:p/w@h:1", "http://***@h:1"),
        ("at https://u@h, then", "at https://***@h, then"),
        ("https://h:1/path", "https://h:1/path"),
        ("user@host", "user@host"),
    ],
)
def test_addresses_are_shown_without_what_is_before_the_at(text: str, shown: str) -> None:
    """To the last @, whatever the password holds."""
    assert without_user_info(text) == shown


def test_only_what_a_library_can_read_is_an_address() -> None:
    """What it cannot read it would quote."""
    good = ("http://h:1", "https://u:p@h", "tcp://h:2", "unix:/run/milvus.sock", "http://[::1]:3")
    assert all(map(is_address, good))
    assert not any(map(is_address, ("h:1", "root:pw@h:1", "https://root:p/w@h:1", "http://[::1", "http://h:99999")))


# -- clients that fail


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: Capture) -> Callable[[], str]:
    """All that was logged, down to debug, and written to stdout and stderr by whatever library."""
    caplog.set_level(logging.DEBUG)

    def everything() -> str:
        return caplog.text + "".join(capfd.readouterr())

    return everything


def test_a_client_of_kafka_that_fails_tells_no_secret(said: Callable[[], str]) -> None:
    """Not even with all of librdkafka's debugging on."""
    options = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": MARK}
    debugging = {"debug": "all", "log_level": "7"}
    kafka = KafkaSettings(
        bootstrap_servers=NOBODY, options=options | debugging, request_timeout_s=1, transaction_timeout_s=1
    )
    with pytest.raises(BrokerUnavailable, match=r"kafka\.bootstrap_servers.*Connection refused") as caught:
        Admin(Settings(kafka=kafka)).existing([])
    heard = said()
    assert "sasl" in heard.lower(), "librdkafka wrote nothing: this test looks at nothing"
    assert MARK not in chain(caught.value) + heard


@pytest.mark.parametrize(
    "option", ["ssl.key.pem", "ssl.keystore.location", "sasl.oauthbearer.config", "sasl.jaas.config"]
)
def test_an_option_that_librdkafka_refuses_is_not_quoted(option: str, said: Callable[[], str]) -> None:
    """Malformed keys and unknown options end the start, without their value."""
    options = {
        "security.protocol": "SASL_SSL",
        "ssl.keystore.password": MARK,
        option: SECRET_OPTIONS.get(option, "/nowhere"),
    }
    with pytest.raises(DejaviewError) as caught:
        Admin(Settings(kafka={"options": options, "request_timeout_s": 1, "transaction_timeout_s": 1})).existing([])
    assert MARK not in chain(caught.value) + said()


def test_a_client_of_milvus_that_fails_tells_no_secret(said: Callable[[], str]) -> None:
    """Neither the token nor what stands before the @ of the address."""
    index = MilvusIndex(IndexSettings(**VALUES["index"], timeout_s=2), "model")
    with pytest.raises(DejaviewError, match=r"at http://\*\*\*@127\.0\.0\.1:9") as caught:
        index.prepare()
    assert MARK not in str(caught.value) + said()


def test_a_store_that_fails_tells_no_secret(said: Callable[[], str]) -> None:
    """Neither the keys nor the endpoint's password, also where boto3 refuses the endpoint."""
    boto3 = pytest.importorskip("boto3")
    assert boto3
    values = {**VALUES["intake"], "s3_buckets": ["b"]}
    Fetcher(IntakeSettings(**values))
    with pytest.raises(SettingError, match=r"intake\.s3_endpoint") as caught:
        Fetcher(IntakeSettings(**{**values, "s3_endpoint": f"https://key:{MARK}@under_score"}))
    assert MARK not in chain(caught.value) + said()


def test_why_kafka_cannot_be_reached_is_heard() -> None:
    """A call that times out is explained by what librdkafka said meanwhile, not by what it said before.

    Break: `explain` without `_last`; no `forget`.
    """
    heard, late = Heard(), KafkaError(KafkaError._TRANSPORT)
    assert isinstance(heard.explain(late, "asking"), BrokerUnavailable)
    heard(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert isinstance(heard.explain(late, "asking"), NotPermitted)
    heard.forget()
    assert isinstance(heard.explain(late, "asking"), BrokerUnavailable)
    heard(KafkaError(KafkaError._SSL, "unknown certificate"))
    assert "ssl.ca.location" in str(heard.explain(late, "asking"))


def test_what_milvus_says_is_shown_without_a_password() -> None:
    """Whatever text comes back, an address in it has no password. Break: the text as it came in `translate`."""
    assert MARK not in str(translate(OSError(f"tcp://root:{MARK}@h refused"), "search"))


# -- the documents


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of SECURITY.md, without its head."""
    text = (ROOT / "SECURITY.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[re.sub("`", "", cell).strip() for cell in row] for row in rows[2:]]


def test_the_rights_in_the_document_are_those_that_were_tried() -> None:
    """SECURITY.md lists what tests/service/test_secured_servers.py runs with, and no more. Break: drop one."""
    shown = [
        [
            right.operation,
            right.resource,
            f"topics.{right.name}" if right.resource == "topic" else f"PREFIX-{right.name}",
            right.stages,
        ]
        for right in KAFKA_RIGHTS
    ]
    assert [row[:4] for row in table("Rights in Kafka")] == shown
    assert [tuple(row[:2]) for row in table("Rights in Milvus")] == list(MILVUS_RIGHTS)
