"""Clients that have lost all brokers for good.

When the last answer of a broker that is stopping names no brokers, librdkafka forgets all of them and looks for none
any more (its issue 5301, open). Only a new client asks the bootstrap addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException

REACH_S = 3.0
# A producer that delivered nothing for two time limits is replaced, whatever the reason: that costs nothing.
UNREACHED_MAX = 2


def is_lost(consumer: Consumer, configuration: Mapping[str, Any], topic: str) -> bool:
    """Whether this client reaches no broker while a new one does; takes twice `REACH_S` at most."""
    if _reaches(consumer, topic):
        return False
    fresh = Consumer(dict(configuration))
    try:
        return _reaches(fresh, topic)
    finally:
        fresh.close()


def _reaches(consumer: Consumer, topic: str) -> bool:
    try:
        consumer.list_topics(topic, timeout=REACH_S)
    except KafkaException:
        return False
    return True
