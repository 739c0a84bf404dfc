"""A broker that was away and is back is found at once by who writes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, ProducerBroken
from stream.kafka import LogProducer, Outgoing
from stream.kafka.client import configuration
from tests.fault.cluster import Cluster
from tests.support.deployment import until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

TIMES = 3
BACK_WITHIN_S = 60.0


def group_metadata(settings: Settings) -> Any:
    """Of a group without members: any member's offsets are taken."""
    return Consumer(configuration(settings, {}, {"group.id": "none"})).consumer_group_metadata()


def succeeds(producer: LogProducer, settings: Settings, metadata: Any) -> bool:
    """One transaction. A broker that has just started asks for patience: an error that says so is aborted."""

    def end() -> None:
        producer.send_offsets(settings.topics.fingerprints, {0: 1}, metadata, None)
        producer.commit()

    producer.begin()
    try:
        producer.produce([Outgoing(settings.topics.ledger, b"entry", partition=0)])
        producer.flush()
        producer.guarded(end)
    except ProducerBroken:
        raise
    except (BatchAborted, BrokerUnavailable):
        producer.abort()
        return False
    return True


def test_offsets_are_sent_to_a_broker_that_was_restarted(cluster: Cluster, tmp_path: Path) -> None:
    """DECIDE's transactions go through again with the producer that it has: it is not left behind after 12 s.

    Break, tried: leave `metadata.recovery.strategy` at librdkafka's `rebootstrap`.
    """
    settings = cluster.deployment(tmp_path, 1).settings
    transacted = partial(succeeds, LogProducer(settings, "restarted"), settings, group_metadata(settings))
    until(transacted, BACK_WITHIN_S)
    for _ in range(TIMES):
        cluster.kafka.stop()
        cluster.kafka.start()
        # ProducerBroken, which says that librdkafka did not come back, ends the test.
        until(transacted, BACK_WITHIN_S)
