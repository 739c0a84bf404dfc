"""The index clients of one process, each prepared before its stage begins."""

from __future__ import annotations

import logging
from collections.abc import Collection
from threading import Event

from stream.backoff import Backoff
from stream.config import IndexSettings
from stream.errors import TransientError
from stream.health import Health
from stream.metrics import Metrics
from stream.neighbours import open_index
from stream.neighbours.protocol import Index

log = logging.getLogger("dejaview")


class ToldToStopError(Exception):
    """The end came while a stage waited for the index: no failure."""


class Indexes:
    """A client for each stage: when the index was switched to another collection, each goes there between two batches
    of its own. Milvus Lite takes one client, and is never switched.
    """

    def __init__(self, settings: IndexSettings, model_id: str, stages: Collection[str]) -> None:
        shared = open_index(settings, model_id) if settings.embedded and stages else None
        self._settings = settings
        self._of = {stage: shared or open_index(settings, model_id) for stage in stages}

    def of(self, stage: str) -> Index | None:
        """A stage's client; it connects at its first call."""
        return self._of.get(stage)

    def ready(self, stage: str, stop: Event, metrics: Metrics, health: Health) -> Index:
        """A stage's index, once its collection is there: an index that is away is waited for.

        Raises:
            ToldToStopError: it never came.
            WrongCollection, NotPermitted, SettingError: it cannot be used.
        """
        index, backoff = self._of[stage], Backoff(self._settings.retry_wait_max_s)
        while not stop.is_set():
            health.beat(stage)
            if backoff.waiting():
                stop.wait(0.05)
                continue
            try:
                index.prepare()
            except TransientError as error:
                health.unready(f"{stage} start", str(error))
                metrics.index_errors.labels(stage).inc()
                log.warning("%s waits for the index: %s", stage, error)
                backoff.failed()
            else:
                return index
        raise ToldToStopError

    def close(self) -> None:
        for index in dict.fromkeys(self._of.values()):
            index.close()
