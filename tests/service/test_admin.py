"""What a broker answers about a topic that was created a moment ago."""

from __future__ import annotations

from uuid import uuid4

from ops.local.kafka import KafkaServer
from stream.config import Settings
from stream.kafka.admin import Admin

PARTITIONS = 4


def test_the_ends_of_a_new_topic_are_known(kafka: KafkaServer) -> None:
    """Its leaders are not known everywhere at once. Break: ask once (nine of ten fail)."""
    admin = Admin(Settings.model_validate({"kafka": {"bootstrap_servers": kafka.bootstrap}}))
    for name in [f"new-{uuid4().hex[:8]}" for _ in range(30)]:
        admin.create(name, PARTITIONS, 1, {})
        assert admin.ends(name, range(PARTITIONS)) == dict.fromkeys(range(PARTITIONS), (0, 0))
