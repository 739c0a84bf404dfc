"""librdkafka's mock cluster: a broker inside the program, for the demo.

Good for plumbing only (facts): no transactions worth the name, about 5 MB kept per partition, four
partitions a topic, topics appear when they are first named.
"""

from __future__ import annotations

from confluent_kafka import Producer

START_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """Lives as long as this object."""

    def __init__(self) -> None:
        # The address is never contacted: the mock cluster takes its place.
        self._owner = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._owner.list_topics(timeout=START_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
