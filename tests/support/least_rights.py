"""Deployments on secured servers: workers with the rights they need and none more, and how their stages end."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.exposition import generate_latest

from models.model import load_model
from stream.config import Settings
from stream.errors import DejaviewError
from stream.kafka import Outgoing
from stream.neighbours.milvus.collection import collection_name
from stream.service import Service, Stage
from stream.tenants import partition_of
from tests.support.deployment import Deployment
from tests.support.made import at_similarity, fingerprint, random_vector
from tests.support.secured import KAFKA_RIGHTS, MILVUS_RIGHTS, Right, SecuredKafka, SecuredMilvus

MILVUS_USER = "stages"
KAFKA_PASSWORD = "kafka-f3L9xQ"
MILVUS_PASSWORD = "milvus-8sVb2T"
WRONG = "wrong-c4Rd7M"
SECRETS = (KAFKA_PASSWORD, MILVUS_PASSWORD, WRONG)
# Kafka's own waiting, and then some for a busy machine.
REQUEST_TIMEOUT_S = 6.0
PATIENT = {"request_timeout_s": 30.0, "transaction_timeout_s": 10.0}
BOUND_S = 40.0
START_TIMEOUT_S = 3.0


@dataclass
class Secured:
    """The servers, and deployments on them."""

    kafka: SecuredKafka
    milvus: SecuredMilvus
    folder: Path
    deployment: Deployment
    user: str

    @classmethod
    def create(cls, kafka: SecuredKafka, milvus: SecuredMilvus, folder: Path) -> Secured:
        """Topics made by the administrator, and a user of Kafka and of Milvus for the workers."""
        made = Deployment.create(folder, kafka.bootstrap, milvus.uri, partitions=2, kafka={"options": kafka.options()})
        topics, tag = made.settings.topics, made.settings.kafka.group_prefix
        kafka.add_user(tag, KAFKA_PASSWORD)
        kafka.allow(tag, KAFKA_RIGHTS, topics, tag)
        milvus.allow(MILVUS_USER, collection_name(made.settings.index, load_model().model_id), MILVUS_RIGHTS)
        (folder / "password").write_text(f"{KAFKA_PASSWORD}\n")
        (folder / "token").write_text(f"{MILVUS_USER}:{MILVUS_PASSWORD}\n")
        secured = cls(kafka, milvus, folder, made, tag)
        # The administrator's are in `settings`; the workers are told these.
        made.values = secured.settings(PATIENT).model_dump(mode="json", exclude_unset=True)
        return secured

    def settings(self, kafka: Mapping[str, Any] = {}, index: Mapping[str, Any] = {}, **options: str | None) -> Settings:
        """The workers' settings, changed.

        Args:
            kafka: other settings of this section.
            index: other settings of this section.
            options: librdkafka options with `_` for `.`; None leaves one out.
        """
        changed = self.kafka.options(self.user) | {name.replace("_", "."): value for name, value in options.items()}
        own_kafka = {
            "options": {name: value for name, value in changed.items() if value is not None},
            "option_files": {"sasl.password": self.folder / "password"},
            "request_timeout_s": REQUEST_TIMEOUT_S,
            "transaction_timeout_s": REQUEST_TIMEOUT_S,
        }
        own_index = {"token_file": self.folder / "token", "server_pem": self.milvus.certificates.ca}
        values = self.deployment.values
        return Settings(
            kafka={**values["kafka"], **own_kafka, **kafka},
            topics=values["topics"],
            index={**values["index"], **own_index, **index},
            tenants={"thresholds": {"t": {"duplicate": 0.9, "review": 0.5}}},
            health={"port": 0},
            drain_s=10,
        )

    def without(self, missing: Right) -> None:
        """Take one right away; a topic may still be described."""
        self.kafka.forbid(self.user)
        rights = [right for right in KAFKA_RIGHTS if right != missing]
        if missing.resource == "topic":
            rights.append(Right("topic", missing.name, "DESCRIBE", missing.stages))
        self.kafka.allow(self.user, rights, self.deployment.settings.topics, self.user)


def assert_no_secret(*texts: object) -> None:
    """Neither as text nor in a repr, nor in what an exception was raised from."""
    for text in texts:
        assert not any(secret in f"{text}{text!r}" for secret in SECRETS), text
        if isinstance(text, BaseException):
            assert not any(secret in "".join(traceback.format_exception(text)) for secret in SECRETS)


def failure_of(settings: Settings, *stages: Stage) -> BaseException:
    """What ends these stages; fails when nothing does within the bound. /readyz and /metrics hold no secret."""
    try:
        service = Service(settings, stages)
    except DejaviewError as error:
        return error
    service.start()
    try:
        ended = service.stop.wait(BOUND_S)
        assert ended, f"nothing ended it; not ready: {service.health.missing()}"
        assert_no_secret(service.health.missing(), generate_latest(service.metrics.registry).decode())
    finally:
        assert service.close()
    assert service.failure is not None
    return service.failure


def fingerprints(secured: Secured) -> list[Outgoing]:
    """One of every verdict, and one that becomes a dead letter."""
    topics, vector = secured.settings().topics, random_vector(1)
    vectors = [vector, vector, at_similarity(vector, 0.7)]
    made = [fingerprint(n, v, model_id=load_model().model_id) for n, v in enumerate(vectors)]
    place = partition_of(b"t", topics.partitions)
    records = [Outgoing(topics.fingerprints, f.model_dump_json().encode(), partition=place) for f in made]
    return [*records, Outgoing(topics.fingerprints, b"no fingerprint", partition=place)]
