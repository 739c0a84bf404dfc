"""What all clients share: configuration, and librdkafka's errors as ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream.config import Settings
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
from stream.secrets import read_secret_file

log = logging.getLogger("dejaview.kafka")

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
# What keeps a client from connecting, and is said beside its calls only.
_NO_CONNECTION = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001
    KafkaError._SSL,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
}
_FOR_A_PERSON = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001
_LOGGED_EVERY_S = 60.0


def translate(error: KafkaError, doing: str) -> DejaviewError:
    """A librdkafka error as one of ours, with what was being done and what to do about it."""
    text = f"{doing}: {error.str()} ({error.name()})"
    code = error.code()
    if code in _NOT_PERMITTED:
        return NotPermitted(
            f"{text}. Check the credentials (sasl.mechanism, sasl.username and sasl.password in `kafka.options` and "
            "`kafka.option_files`) and the ACLs of this user (SECURITY.md lists them)."
        )
    # A handshake that fails late is told as a broken connection.
    if code == KafkaError._SSL or "SSL routines" in error.str():  # noqa: SLF001
        return BrokerUnavailable(f"{text}. Check ssl.ca.location in `kafka.options`, and the broker's certificate.")
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


class Heard:
    """Why a client cannot connect: librdkafka's `error_cb`, served by the client's own polls.

    A call of a client that cannot connect ends with its time-out and says no more. What only a person
    can mend (a wrong password, an unknown certificate) is logged, once a minute.
    """

    def __init__(self) -> None:
        self._last: KafkaError | None = None
        self._quiet_until_s = 0.0

    def __call__(self, error: KafkaError) -> None:
        if error.code() not in _NO_CONNECTION:
            return
        if error.code() not in _FOR_A_PERSON:
            self._last = self._last or error
            return
        self._last = error
        if time.monotonic() > self._quiet_until_s:
            self._quiet_until_s = time.monotonic() + _LOGGED_EVERY_S
            log.warning("%s", translate(error, "connecting"))

    def forget(self) -> None:
        """What was heard before a call does not explain its failure."""
        self._last = None

    def explain(self, error: KafkaError, doing: str) -> DejaviewError:
        """A call's error, or the reason that was heard meanwhile."""
        return translate(self._last or error, doing)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as exception:
        raise translate(exception.args[0], doing) from exception
    except SystemError as error:
        # confluent_kafka sets an error inside a poll and then calls a callback, which Python finds odd.
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise translate(error.__cause__.args[0], doing) from error.__cause__


def configuration(settings: Settings, extra: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    kafka = settings.kafka
    secrets = {n: read_secret_file(path, f"kafka.option_files {n}") for n, path in kafka.option_files.items()}
    chosen = {**kafka.options, **extra, **secrets}
    # librdkafka's own most is 10 s: a broker that is back would be found that late. Java's clients have 1 s, too.
    reconnecting = {} if "reconnect.backoff.ms" in chosen else {"reconnect.backoff.max.ms": 1000}
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": "dejaview",
        # librdkafka logs every failed connection at 3; what matters comes as an error.
        "log_level": 2,
        "error_cb": Heard(),
        **reconnecting,
        **chosen,
        **own,
    }


@contextmanager
def option_errors() -> Iterator[None]:
    """A misspelt librdkafka option is a setting's error, not a broker's."""
    try:
        yield
    except KafkaException as exception:
        raise SettingError(f"kafka options: {exception.args[0].str()}; see librdkafka's list of options") from exception
