"""Consumer groups and topics as the broker sees them: committed offsets, ends, settings."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from stream.config import Settings
from stream.kafka.client import configuration

TIMEOUT_S = 20.0


class Groups:
    """Looks at a deployment's groups without joining them, and changes its topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AdminClient(configuration(settings, {}, {}))
        self._consumers: dict[str, Consumer] = {}

    def places(self, stage: str, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """Committed offsets (-1001: none) and ends of a topic, by partition."""
        group = f"{self._settings.kafka.group_prefix}-{stage}"
        if group not in self._consumers:
            self._consumers[group] = Consumer(configuration(self._settings, {}, {"group.id": group}))
        consumer = self._consumers[group]
        partitions = [TopicPartition(topic, n) for n in range(self._settings.topics.partitions)]
        committed = {place.partition: place.offset for place in consumer.committed(partitions, TIMEOUT_S)}
        ends = {place.partition: consumer.get_watermark_offsets(place, TIMEOUT_S)[1] for place in partitions}
        return committed, ends

    def done(self, stage: str, topic: str) -> bool:
        """Whether the stage's group has committed all there is."""
        committed, ends = self.places(stage, topic)
        return all(max(0, committed[partition]) == end for partition, end in ends.items())

    def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        (future,) = self._admin.incremental_alter_configs([resource], request_timeout=TIMEOUT_S).values()
        future.result(TIMEOUT_S)

    def delete(self, topic: str) -> None:
        (future,) = self._admin.delete_topics([topic], request_timeout=TIMEOUT_S).values()
        future.result(TIMEOUT_S)

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()
