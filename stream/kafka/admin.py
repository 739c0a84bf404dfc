"""Topics: describe, create; and what `doctor` asks of brokers, offsets and groups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from stream.config import Settings
from stream.errors import BrokerUnavailable, TopicMissing
from stream.kafka.client import Heard, configuration, option_errors, translate, translated
from stream.kafka.records import Topic

_METADATA_DELAY_S = 2.0
_NO_LEADER_YET = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._NOENT,  # noqa: SLF001 - "no leaders found"
}


@dataclass(frozen=True, slots=True)
class Copies:
    """Where one partition's copies are."""

    has_leader: bool
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group on one topic; a partition without a committed offset has None."""

    name: str
    members: int
    committed: Mapping[int, int | None]


class Admin:
    """Topics and their ids. `embedded` is librdkafka's mock cluster, which knows no topic ids."""

    def __init__(self, settings: Settings, *, embedded: bool = False) -> None:
        self._timeout_s = settings.kafka.request_timeout_s
        self._embedded = embedded
        self._heard = Heard()
        with option_errors():
            self._client = AdminClient(configuration(settings, {}, {"error_cb": self._heard}))
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
                raise TopicMissing(
                    f"no topic {listed} on {self._servers}, or none that this user may describe; "
                    "`dejaview topics create` makes them, SECURITY.md lists the ACLs"
                )
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

    def brokers(self) -> list[int]:
        """The ids of the brokers that are there.

        Raises:
            BrokerUnavailable, NotPermitted.
        """
        with translated(f"asking {self._servers} for its brokers"):
            cluster = self._client.describe_cluster(request_timeout=self._timeout_s).result()
        return sorted(int(node.id) for node in cluster.nodes)

    def broker_configs(self, broker: int) -> dict[str, str]:
        """One broker's configuration, as Kafka spells it.

        Raises:
            BrokerUnavailable, NotPermitted.
        """
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker))
        (future,) = self._client.describe_configs([resource], request_timeout=self._timeout_s).values()
        with translated(f"reading the configuration of broker {broker}"):
            return {name: entry.value or "" for name, entry in future.result().items()}

    def copies(self, names: Sequence[str]) -> dict[str, list[Copies]]:
        """Topic -> its partitions' copies, in the order of the partitions; the topics exist.

        Raises:
            BrokerUnavailable, TopicMissing, NotPermitted.
        """
        if not names:
            return {}
        futures = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s)
        found = {}
        for name, future in futures.items():
            with translated(f"describing topic {name}"):
                topic = future.result()
            found[name] = [
                # A partition without a leader names a node without a host, or none.
                Copies(bool(part.leader and part.leader.host), len(part.replicas), len(part.isr))
                for part in sorted(topic.partitions, key=lambda part: part.id)
            ]
        return found

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Partition -> first offset and high watermark, open transactions included.

        Raises:
            BrokerUnavailable, TopicMissing, NotPermitted.
        """
        numbers = list(partitions)
        first = self._offsets(topic, numbers, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        high = self._offsets(topic, numbers, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {number: (first[number][0], high[number][0]) for number in numbers}

    def offsets_at(self, topic: str, partitions: Iterable[int], timestamp_ms: int) -> dict[int, int | None]:
        """Partition -> the first offset whose record is of this time or later, None when there is none.

        Raises:
            BrokerUnavailable, TopicMissing, NotPermitted.
        """
        found = self._offsets(topic, list(partitions), OffsetSpec.for_timestamp(timestamp_ms))
        return {partition: offset if offset >= 0 else None for partition, (offset, _) in found.items()}

    def newest_timestamp_ms(self, topic: str, partitions: Iterable[int]) -> int | None:
        """The latest timestamp of a topic's records, None when it is empty.

        Raises:
            BrokerUnavailable (also of brokers before 3.0, which do not know), TopicMissing, NotPermitted.
        """
        found = self._offsets(topic, list(partitions), OffsetSpec.max_timestamp())  # type: ignore[no-untyped-call]
        newest = max((timestamp_ms for _, timestamp_ms in found.values()), default=-1)
        return newest if newest >= 0 else None

    def group(self, name: str, topic: str, partitions: Iterable[int]) -> Group:
        """A consumer group's members and committed offsets; a group that never was has none.

        Raises:
            BrokerUnavailable, NotPermitted.
        """
        described = self._client.describe_consumer_groups([name], request_timeout=self._timeout_s)
        asked = ConsumerGroupTopicPartitions(name, [TopicPartition(topic, number) for number in partitions])
        offsets = self._client.list_consumer_group_offsets([asked], request_timeout=self._timeout_s)
        with translated(f"describing consumer group {name}"):
            members = len(described[name].result().members)
            places = offsets[name].result().topic_partitions
        for place in places:
            if place.error is not None:
                raise translate(place.error, f"reading the committed offsets of {name}")
        return Group(name, members, {place.partition: place.offset if place.offset >= 0 else None for place in places})

    def _offsets(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> dict[int, tuple[int, int]]:
        """Partition -> offset and timestamp; -1 where there is none. Waits a moment for a new topic's leader."""
        deadline = time.monotonic() + _METADATA_DELAY_S
        while True:
            try:
                return self._offsets_now(topic, partitions, spec)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.code() not in _NO_LEADER_YET or time.monotonic() > deadline:
                    raise translate(error, f"reading the offsets of {topic}") from exception
            time.sleep(0.1)
            self._partition_counts()  # librdkafka keeps what it heard, "no leaders" too, until it asks again

    def _offsets_now(self, topic: str, partitions: Sequence[int], spec: OffsetSpec) -> dict[int, tuple[int, int]]:
        asked = {TopicPartition(topic, number): spec for number in partitions}
        futures = self._client.list_offsets(asked, request_timeout=self._timeout_s) if asked else {}
        answers = {place.partition: future.result() for place, future in futures.items()}
        return {partition: (int(answer.offset), int(answer.timestamp)) for partition, answer in answers.items()}

    def _partition_counts(self, name: str | None = None) -> dict[str, int]:
        self._client.poll(0)
        self._heard.forget()
        try:
            metadata = self._client.list_topics(name, timeout=self._timeout_s)
        except KafkaException as exception:
            self._client.poll(0)
            error = self._heard.explain(exception.args[0], f"asking {self._servers} for its topics")
            if isinstance(error, BrokerUnavailable):
                error = BrokerUnavailable(
                    f"no Kafka at {self._servers} (`kafka.bootstrap_servers`), or it wants another security.protocol "
                    f"or sasl.mechanism (`kafka.options`): {error}"
                )
            raise error from exception
        return {topic: len(data.partitions) for topic, data in metadata.topics.items()}
