"""Live means that the loops turn, ready that nothing speaks against judging; a changed topic stops."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from stream import errors
from stream.config import HealthSettings, Settings
from stream.health import Health, HealthServer
from stream.kafka import EmbeddedBroker, Topic
from stream.kafka.client import translate
from stream.metrics import Metrics
from stream.service import ALL_STAGES, Service, Stage, parse_stages, transactional_id


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def served() -> Iterator[tuple[Health, Clock, HealthServer]]:
    clock = Clock()
    health = Health(60, clock)
    server = HealthServer(HealthSettings(port=0), health, Metrics(CollectorRegistry()))
    yield health, clock, server
    server.close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_stalled_loop_is_not_live(served: tuple[Health, Clock, HealthServer]) -> None:
    """A loop that has not turned for loop_stall_s fails /livez; one that ended does not. Break: never compare."""
    health, clock, server = served
    health.beat("decide")
    health.beat("index")
    assert get(server, "/livez") == (200, "ok\n")
    clock.now = 61
    health.beat("index")
    assert get(server, "/livez") == (503, "decide stalled\n")
    health.ended("decide")
    assert get(server, "/livez")[0] == 200


def test_a_long_start_is_no_stall(served: tuple[Health, Clock, HealthServer]) -> None:
    """An engine that is built for minutes does not fail /livez; one that never comes does. Break: ignore `most_s`."""
    health, clock, server = served
    with health.busy("encode", 900):
        clock.now = 899
        assert get(server, "/livez")[0] == 200
        clock.now = 901
        assert get(server, "/livez") == (503, "encode stalled\n")
    assert get(server, "/livez")[0] == 200
    clock.now = 962
    assert get(server, "/livez") == (503, "encode stalled\n")


def test_ready_when_nothing_speaks_against_it(served: tuple[Health, Clock, HealthServer]) -> None:
    """/readyz names what is missing, and /metrics says the same. Break: answer 200 always."""
    health, _, server = served
    health.unready("decide index", "Milvus is away")
    assert get(server, "/readyz") == (503, "decide index: Milvus is away\n")
    assert "dejaview_ready 0.0" in get(server, "/metrics")[1]
    health.ready("decide index")
    assert get(server, "/readyz")[0] == 200
    assert "dejaview_ready 1.0" in get(server, "/metrics")[1]
    assert get(server, "/elsewhere")[0] == 404


def test_a_taken_port_names_the_setting(served: tuple[Health, Clock, HealthServer]) -> None:
    """The message says which setting to change. Break: let OSError through."""
    health, _, server = served
    with pytest.raises(errors.SettingError, match=r"health\.port"):
        HealthServer(HealthSettings(port=server.port), health, Metrics(CollectorRegistry()))


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, errors.NotPermitted, "ACL"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, errors.NotPermitted, "credentials"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, errors.NotPermitted, "ACL"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, errors.TopicMissing, "topics create"),
        (KafkaError._AUTO_OFFSET_RESET, errors.OffsetLost, "[Rr]etention"),
        (KafkaError.ILLEGAL_GENERATION, errors.BatchAborted, "doing something"),
        (KafkaError.PRODUCER_FENCED, errors.BatchAborted, "doing something"),
        (KafkaError._TRANSPORT, errors.BrokerUnavailable, "doing something"),
        (KafkaError._TIMED_OUT, errors.BrokerUnavailable, "doing something"),
    ],
)
def test_broker_errors_have_a_policy_and_a_fix(code: int, kind: type[errors.DejaviewError], says: str) -> None:
    """Every class of broker error becomes one of ours, with what to do. Break: drop a code from its set."""
    with pytest.raises(kind, match=says):
        raise translate(KafkaException(KafkaError(code)).args[0], "doing something")


def embedded(**values: object) -> Settings:
    broker = EmbeddedBroker()
    made = Settings(kafka={"bootstrap_servers": broker.bootstrap_servers}, delivery="at_least_once", **values)  # type: ignore[arg-type]
    object.__setattr__(made, "_broker", broker)
    return made


@pytest.mark.parametrize(
    ("now", "failure"),
    [
        (lambda topic: replace(topic, partitions=99), errors.PartitionCountChanged),
        (lambda topic: replace(topic, topic_id="another"), errors.TopicReplaced),
    ],
)
def test_a_topic_that_changes_while_running_stops_everything(
    monkeypatch: pytest.MonkeyPatch, now: Callable[[Topic], Topic], failure: type[errors.DejaviewError]
) -> None:
    """R3: tenants would change their judge, or records be skipped. Break: log it and go on in `_check_topics`."""
    service = Service(embedded(), [Stage.ENCODE], embedded=True)
    service._check_topics()
    assert not service.stop.is_set()
    found = service._admin.topics
    monkeypatch.setattr(service._admin, "topics", lambda names: {n: now(t) for n, t in found(names).items()})
    service._check_topics()
    assert service.stop.is_set()
    assert isinstance(service.failure, failure)
    assert "99" in str(service.failure) or "another" in str(service.failure)


def test_exactly_once_is_refused_on_the_embedded_broker() -> None:
    """Contradicting choices refuse to start. Break: drop the check in `Service.__init__`."""
    with pytest.raises(errors.SettingError, match="exactly_once"):
        Service(Settings(), ALL_STAGES, embedded=True)


def test_the_transactional_id_is_the_instances() -> None:
    """Stable per instance, so that a worker that comes back fences what it left. Break: add a random part."""
    settings = Settings(instance_id="decide-0")
    assert transactional_id(settings) == transactional_id(settings) == "dejaview-decide-decide-0"
    assert parse_stages([]) == ALL_STAGES
    assert parse_stages(["decide"]) == (Stage.DECIDE,)
