"""Kafka: the only package that knows confluent_kafka. Its errors are translated here."""

from stream.kafka.admin import Admin
from stream.kafka.consumer import Assignment, GroupConsumer
from stream.kafka.embedded import EmbeddedBroker
from stream.kafka.follower import Follower
from stream.kafka.lost import UNREACHED_MAX
from stream.kafka.producer import LogProducer
from stream.kafka.reader import LogReader
from stream.kafka.records import Headers, Outgoing, Record, Topic

__all__ = [
    "UNREACHED_MAX",
    "Admin",
    "Assignment",
    "EmbeddedBroker",
    "Follower",
    "GroupConsumer",
    "Headers",
    "LogProducer",
    "LogReader",
    "Outgoing",
    "Record",
    "Topic",
]
