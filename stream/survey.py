"""What a worker asks now and then for /metrics alone. Without an answer a figure stays as it was."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from threading import Event

from stream.config import TopicSettings
from stream.errors import DejaviewError
from stream.kafka import Admin
from stream.metrics import Metrics
from stream.neighbours.protocol import Index

log = logging.getLogger("dejaview")

SURVEY_S = 300.0
# The index is prepared first.
FIRST_S = 5.0


def survey(
    metrics: Metrics, topics: TopicSettings, stages: Collection[str], admin: Admin, index: Index | None, stop: Event
) -> None:
    """Ask until told to stop."""
    reads = {"encode": topics.uploads, "decide": topics.fingerprints, "index": topics.ledger}
    wait_s = FIRST_S
    while not stop.wait(wait_s):
        survey_retention(metrics, {stage: topic for stage, topic in reads.items() if stage in stages}, admin)
        if index is not None and "index" in stages:
            survey_rows(metrics, index)
        wait_s = SURVEY_S


def survey_retention(metrics: Metrics, read_by: Mapping[str, str], admin: Admin) -> None:
    """How long the topics are kept that stages read; `read_by`: stage -> topic."""
    try:
        found = admin.describe_configs(list(read_by.values()))
    except DejaviewError as error:
        # DESCRIBE_CONFIGS is not among a worker's rights, see SECURITY.md.
        log.info("dejaview_topic_retention_seconds is not known: %s", error)
        return
    for stage, topic in read_by.items():
        if (kept_ms := found[topic].get("retention.ms")) is not None:
            metrics.retention.labels(stage).set(math.inf if int(kept_ms) < 0 else int(kept_ms) / 1000)


def survey_rows(metrics: Metrics, index: Index) -> None:
    """How many rows the index holds."""
    try:
        metrics.index_rows.set(index.count_rows())
    except DejaviewError as error:
        log.info("dejaview_index_rows is not known: %s", error)
