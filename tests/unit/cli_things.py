"""An embedded broker's topics for tests of the commands."""

from __future__ import annotations

from stream.config import KafkaSettings, Settings, TopicSettings
from stream.kafka import Admin, EmbeddedBroker


def embedded_settings(broker: EmbeddedBroker, tag: str) -> Settings:
    """Settings with topics of their own (four partitions each), which are there."""
    names = ("uploads", "fingerprints", "ledger", "unique", "duplicate", "review", "deadletters")
    found = Settings(
        kafka=KafkaSettings(bootstrap_servers=broker.bootstrap_servers),
        topics=TopicSettings(**{name: f"{tag}.{name}" for name in names}),
    )
    Admin(found, embedded=True).topics([f"{tag}.{name}" for name in names])
    return found


def flags_of(settings: Settings) -> list[str]:
    """The same settings as a command's flags."""
    topics = settings.topics
    return [
        f"--kafka.bootstrap_servers={settings.kafka.bootstrap_servers}",
        *(f"--topics.{name}={getattr(topics, name)}" for name in ("uploads", "unique", "duplicate", "review")),
        f"--topics.deadletters={topics.deadletters}",
    ]
