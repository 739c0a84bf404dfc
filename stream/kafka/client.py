"""What all clients share: configuration, and librdkafka's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream.config import Settings, read_secret_file
from stream.errors import (
    BatchAborted,
    BrokerUnavailable,
    DejaviewError,
    NotPermitted,
    OffsetLost,
    ProducerBroken,
    SettingError,
    TopicMissing,
)

_NOT_PERMITTED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's local codes are spelt so
}
_TOPIC_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001
_OFFSET_LOST = {
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
    KafkaError._NO_OFFSET,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
}
_STALE = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError._FENCED,  # noqa: SLF001
}


def translate(error: KafkaError, doing: str) -> DejaviewError:
    """A librdkafka error as one of ours, with what was being done and what to do about it."""
    text = f"{doing}: {error.str()} ({error.name()})"
    code = error.code()
    if code in _NOT_PERMITTED:
        return NotPermitted(f"{text}. Check the credentials in `kafka.options` and the ACLs of this principal.")
    if code in _TOPIC_MISSING:
        return TopicMissing(f"{text}. Create the topics with `dejaview topics create`.")
    if code in _OFFSET_LOST:
        return OffsetLost(
            f"{text}. Retention deleted records that were not judged; raise the topic's retention, then set the "
            "group's offsets (kafka-consumer-groups --reset-offsets) to say where to go on."
        )
    if code in _STALE or error.txn_requires_abort():
        return BatchAborted(text)
    return ProducerBroken(text) if error.fatal() else BrokerUnavailable(text)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as exception:
        raise translate(exception.args[0], doing) from exception


def configuration(settings: Settings, extra: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    kafka = settings.kafka
    secrets = {n: read_secret_file(path, f"kafka.option_files {n}") for n, path in kafka.option_files.items()}
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": "dejaview",
        # librdkafka logs every failed connection at 3; what matters comes as an error.
        "log_level": 2,
        **kafka.options,
        **extra,
        **secrets,
        **own,
    }


@contextmanager
def option_errors() -> Iterator[None]:
    """A misspelt librdkafka option is a setting's error, not a broker's."""
    try:
        yield
    except KafkaException as exception:
        raise SettingError(f"kafka options: {exception.args[0].str()}; see librdkafka's list of options") from exception
