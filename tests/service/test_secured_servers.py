"""TLS, passwords and least rights, on servers that insist on them: all works with the rights that SECURITY.md lists,
and what is missing or wrong ends in a stop or in `not ready` that names the setting, never in a verdict or a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ops.doctor.broker import BROKER_SETTINGS
from ops.doctor.clock import BROKER_CLOCK, INDEX_CLOCK
from ops.doctor.index import CANARY
from ops.doctor.topics import CONFIGS, COPIES
from stream.errors import BrokerUnavailable, DejaviewError, NotPermitted, SettingError, TopicMissing
from stream.service import Service, Stage
from tests.support.deployment import SentUpload, until
from tests.support.doctor import doctored
from tests.support.groups import Groups
from tests.support.least_rights import (
    BOUND_S,
    START_TIMEOUT_S,
    WRONG,
    Secured,
    assert_no_secret,
    failure_of,
    fingerprints,
)
from tests.support.photos import jpeg, photo
from tests.support.secured import KAFKA_RIGHTS, ROOT_TOKEN, Right

pytestmark = pytest.mark.timeout(300)

BEYOND_A_WORKER = (BROKER_SETTINGS, BROKER_CLOCK, CONFIGS, COPIES, CANARY, INDEX_CLOCK)


def judged_once(secured: Secured) -> int:
    """DECIDE with all its rights, until everything is judged; how many that is."""
    service = Service(secured.settings(), [Stage.DECIDE])
    service.start()
    secured.deployment.wait_judged(4, BOUND_S)
    assert service.close()
    return 4


def test_the_whole_path_with_least_rights(secured: Secured) -> None:
    """Uploads are judged over SASL_SSL with ACLs and over TLS with a token; rights taken away end the worker.

    Breaks, each tried: leave a right out of KAFKA_RIGHTS or of MILVUS_RIGHTS; `server_pem` not passed to pymilvus;
    `option_files` not read.
    """
    deployment = secured.deployment
    worker = deployment.start("a")
    worker.wait_ready()
    original = jpeg(photo("astronaut.png"))
    uploads = [SentUpload("first", original), SentUpload("copy", original), SentUpload("bad", b"no picture")]
    uploads += [SentUpload("other", jpeg(photo("coffee.png")), partition=1)]
    deployment.send(uploads)
    deployment.wait_judged(len(uploads))
    assert sorted(str(v.verdict) for v in deployment.verdicts()) == ["duplicate", "unique", "unique"]
    assert [d.upload_id for d in deployment.dead_letters()] == ["bad"]
    until(lambda: "dejaview_indexed_rows_total 2.0" in worker.get("/metrics")[1], 30)
    assert_no_secret(worker.get("/metrics")[1], worker.get("/readyz")[1])

    secured.kafka.forbid(secured.user)
    deployment.send([SentUpload("after", original)])
    assert worker.process.wait(BOUND_S) == 1
    said = worker.log.read_text()
    assert "ACLs of this user" in said
    assert len(deployment.verdicts()) == 3
    assert_no_secret(said)


def test_doctor_over_secured_servers(secured: Secured, capsys: pytest.CaptureFixture[str]) -> None:
    """With the workers' rights a healthy deployment has nothing broken: what they may not ask is not checked, and
    nothing is left in Milvus. With the administrators' all is checked and well. No secret is shown.

    Breaks, each tried: another transactional id; NotPermitted out of `BrokerChecks._configs`; the canary not dropped
    before it is made (it stays behind).
    """
    deployment = secured.deployment
    groups = Groups(deployment.settings)
    groups.configure(deployment.settings.topics.ledger, "retention.ms", "-1")
    groups.close()
    deployment.start("a").wait_ready()
    deployment.wait_judged(deployment.send([SentUpload("first", jpeg(photo("astronaut.png")))]))
    code, rows = doctored(capsys, deployment)
    not_well = {name: row["state"] for name, row in rows.items() if row["state"] != "ok"}
    assert not_well == dict.fromkeys(BEYOND_A_WORKER, "not checked"), rows
    assert code == 0
    assert_no_secret(rows)
    (collection,) = (name for name in secured.milvus.client().list_collections() if name.startswith(secured.user))
    assert "doctor" not in collection
    (secured.folder / "root").write_text(ROOT_TOKEN)
    everything = secured.settings(
        kafka={"options": secured.kafka.options(), "option_files": {}}, index={"token_file": secured.folder / "root"}
    )
    deployment.values = everything.model_dump(mode="json", exclude_unset=True)
    code, rows = doctored(capsys, deployment)
    assert {name: row for name, row in rows.items() if row["state"] != "ok"}.keys() == {COPIES}
    assert code == 0
    assert not [row for row in rows.values() if ROOT_TOKEN in str(row)]


@pytest.mark.parametrize("missing", KAFKA_RIGHTS, ids=lambda right: right.label)
def test_a_right_that_is_missing_stops_the_stage(secured: Secured, missing: Right, heard: Callable[[], str]) -> None:
    """Without one ACL the stage stops within a bound, names what it may not use, and has judged nothing.

    Breaks, each tried: TOPIC_AUTHORIZATION_FAILED or TRANSACTIONAL_ID_AUTHORIZATION_FAILED out of `_NOT_PERMITTED`;
    a dropped record's own error instead of its transaction's in `LogProducer`.
    """
    deployment, stage = secured.deployment, Stage(missing.stages.split(", ")[0])
    deployment.send([SentUpload("a", jpeg(photo("astronaut.png")))])
    deployment.send_raw(fingerprints(secured))
    judged = 0
    if (missing.name, missing.operation) == ("ledger", "READ"):
        # DECIDE reads a ledger when there is something in it.
        judged = judged_once(secured)
    secured.without(missing)
    failure = failure_of(secured.settings(), stage)
    assert isinstance(failure, NotPermitted), failure
    assert missing.named(deployment.settings.topics, deployment.settings.kafka.group_prefix) in str(failure)
    assert "ACLs of this user" in str(failure)
    assert deployment.judged() == judged
    assert_no_secret(failure, heard())


def test_no_right_at_all_names_the_topics(secured: Secured) -> None:
    """Topics that may not be described look missing; the message says that it may be the rights. Break: it does not."""
    secured.kafka.forbid(secured.user)
    failure = failure_of(secured.settings(), Stage.ENCODE)
    assert isinstance(failure, TopicMissing)
    assert "this user may describe" in str(failure)
    assert secured.settings().topics.deadletters in str(failure)


KAFKA_FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], type[DejaviewError], str]] = {
    "wrong password": ({}, {"option_files": {"sasl.password": "wrong"}}, NotPermitted, "sasl.password"),
    "unknown user": ({"sasl_username": "nobody"}, {}, NotPermitted, "sasl.username"),
    "wrong PLAIN password": (
        {"sasl_mechanism": "PLAIN"}, {"option_files": {"sasl.password": "wrong"}}, NotPermitted, "sasl.mechanism"
    ),
    "unknown certificate": ({"ssl_ca_location": None}, {}, BrokerUnavailable, "ssl.ca.location"),
    "certificate of another name": ({}, {"bootstrap_servers": "127.1"}, BrokerUnavailable, "ssl.ca.location"),
    "no certificate file": ({"ssl_ca_location": "/nowhere.pem"}, {}, SettingError, "ssl.ca.location"),
    "plaintext": ({"security_protocol": "PLAINTEXT"}, {}, BrokerUnavailable, "security.protocol"),
    "password in the clear": ({"security_protocol": "SASL_PLAINTEXT"}, {}, BrokerUnavailable, "security.protocol"),
    "no password": ({"security_protocol": "SSL"}, {}, BrokerUnavailable, "security.protocol"),
    "no password file": ({}, {"option_files": {"sasl.password": "absent"}}, SettingError, "sasl.password"),
}  # fmt: skip


@pytest.mark.parametrize("fault", KAFKA_FAULTS)
def test_a_wrong_way_to_kafka_is_named(secured: Secured, fault: str, heard: Callable[[], str]) -> None:
    """A wrong password, certificate or protocol ends the start within a bound and names the option, not the secret.

    Breaks, each tried: `Heard` forgets at once (a wrong password reads "no Kafka at …"); no hint for `_SSL`.
    """
    options, kafka, kind, named = KAFKA_FAULTS[fault]
    (secured.folder / "wrong").write_text(WRONG)
    if "option_files" in kafka:
        kafka = {"option_files": {name: secured.folder / file for name, file in kafka["option_files"].items()}}
    if "bootstrap_servers" in kafka:
        kafka = {"bootstrap_servers": f"{kafka['bootstrap_servers']}:{secured.kafka.port}"}
    begun = time.monotonic()
    kafka |= {"request_timeout_s": START_TIMEOUT_S, "transaction_timeout_s": START_TIMEOUT_S}
    failure = failure_of(secured.settings(kafka, **options), Stage.ENCODE)
    assert time.monotonic() - begun < START_TIMEOUT_S * 3
    assert type(failure) is kind, failure
    assert named in str(failure)
    assert_no_secret(failure, heard())
