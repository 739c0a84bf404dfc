"""Topics: describe, create."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from stream.config import Settings
from stream.errors import BrokerUnavailable, TopicMissing
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.records import Topic

_METADATA_DELAY_S = 2.0


class Admin:
    """Topics and their ids. `embedded` is librdkafka's mock cluster, which knows no topic ids."""

    def __init__(self, settings: Settings, *, embedded: bool = False) -> None:
        self._timeout_s = settings.kafka.request_timeout_s
        self._embedded = embedded
        with option_errors():
            self._client = AdminClient(configuration(settings, {}, {}))
        self._servers = settings.kafka.bootstrap_servers

    def topics(self, names: Sequence[str]) -> dict[str, Topic]:
        """Describe topics.

        Raises:
            BrokerUnavailable, TopicMissing (names all that are missing), NotPermitted.
        """
        if self._embedded:
            return {name: Topic(f"embedded-{name}", self._partition_counts(name)[name]) for name in names}
        self.partition_counts(names)
        futures = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s)
        described = {}
        for name, future in futures.items():
            with translated(f"describing topic {name}"):
                topic = future.result()
            described[name] = Topic(str(topic.topic_id), len(topic.partitions))
        return described

    def partition_counts(self, names: Sequence[str]) -> dict[str, int]:
        """Partitions of topics that must exist. Waits a moment: metadata of a new topic takes one to arrive.

        Raises:
            BrokerUnavailable, TopicMissing (names all that are missing), NotPermitted.
        """
        deadline = time.monotonic() + _METADATA_DELAY_S
        while True:
            known = self._partition_counts()
            missing = [name for name in names if name not in known]
            if not missing:
                return {name: known[name] for name in names}
            if time.monotonic() > deadline:
                listed = ", ".join(dict.fromkeys(missing))
                raise TopicMissing(f"no topic {listed} on {self._servers}; `dejaview topics create` makes them")
            time.sleep(0.1)

    def existing(self, names: Sequence[str]) -> dict[str, int]:
        """Partitions of those topics that exist now.

        Asks for all topics: asking for one makes some brokers create it.
        """
        known = self._partition_counts()
        return {name: known[name] for name in names if name in known}

    def describe_configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Topic -> its configuration, the broker's defaults included, as Kafka spells it.

        Raises:
            BrokerUnavailable, TopicMissing, NotPermitted.
        """
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=self._timeout_s) if resources else {}
        configs = {}
        for resource, future in futures.items():
            with translated(f"reading the configuration of topic {resource.name}"):
                configs[resource.name] = {name: entry.value or "" for name, entry in future.result().items()}
        return configs

    def create(self, name: str, partitions: int, replication_factor: int, config: Mapping[str, str]) -> bool:
        """Create a topic; False when it is there already."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(config))
        (future,) = self._client.create_topics([topic], request_timeout=self._timeout_s).values()
        try:
            future.result()
        except KafkaException as exception:
            if exception.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise translate(exception.args[0], f"creating topic {name}") from exception
        return True

    def _partition_counts(self, name: str | None = None) -> dict[str, int]:
        try:
            metadata = self._client.list_topics(name, timeout=self._timeout_s)
        except KafkaException as exception:
            error = translate(exception.args[0], f"asking {self._servers} for its topics")
            if isinstance(error, BrokerUnavailable):
                error = BrokerUnavailable(f"no Kafka at {self._servers} (`kafka.bootstrap_servers`): {error}")
            raise error from exception
        return {topic: len(data.partitions) for topic, data in metadata.topics.items()}
