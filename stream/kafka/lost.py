"""Clients that have lost all brokers for good.

When the last answer of a broker that is stopping names no brokers, librdkafka forgets all of them and looks for none
any more (its issue 5301, open). Only a new client asks the bootstrap addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException

REACH_S = 3.0
# A producer that did not deliver so many times in a row is replaced, whatever the reason: it cannot be asked whom it
# reaches without waiting for it, and a broker that is away for all is away for the new one, too.
UNREACHED_MAX = 2


def is_lost(consumer: Consumer, configuration: Mapping[str, Any], topic: str) -> bool:
    """Whether this client reaches no broker while a new one does; takes about twice `REACH_S` at most."""
    if _reaches(consumer, topic):
        return False
    try:
        fresh = Consumer(dict(configuration))
    except KafkaException:
        # A certificate's file is being replaced, say.
        return False
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
