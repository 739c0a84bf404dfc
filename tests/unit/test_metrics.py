"""R13: what Prometheus sees is what is so, its names are in the documents, and its labels stay few."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from charts.generate import METRICS_PAGE, metrics_page
from stream import survey as surveyed
from stream.config import Settings
from stream.decide import DecideStage
from stream.errors import IndexUnavailable, NotPermitted
from stream.health import Health
from stream.judge import Judge, Knowledge
from stream.kafka import Admin
from stream.memory import Memory
from stream.metrics import Metrics
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Index
from stream.observe import observe
from stream.ownership import Owned
from stream.survey import survey
from stream.window import Window
from tests.support.made import at_similarity, fingerprint, random_vector, rule_of, work


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_table_of_metrics_is_the_programs() -> None:
    """Break: rename a metric or reword one. Mend it with `python -m charts.generate`."""
    page = METRICS_PAGE.read_text()
    assert metrics_page(page) == page


def test_verdicts_are_counted_with_their_margins() -> None:
    """A new verdict that had a candidate is in the margins, once; a repeat and a first picture are not.

    Breaks, each tried: observe repeats, too; observe the score.
    """
    first = random_vector(1)
    near = at_similarity(first, 0.87)
    made = [fingerprint(0, first), fingerprint(1, near), fingerprint(2, near, upload_id="u1", content="bytes1")]
    outcomes = Judge(Window(10), Memory(10), rule_of).judge([work(one) for one in made], Knowledge())
    metrics = Metrics(CollectorRegistry())
    observe(metrics, outcomes, "dejaview.backfill")
    assert value(metrics, "dejaview_verdicts_total", verdict="duplicate") == 2
    assert value(metrics, "dejaview_repeated_verdicts_total") == 1
    assert value(metrics, "dejaview_verdict_margin_count") == 1
    assert [value(metrics, "dejaview_verdict_margin_bucket", le=le) for le in ("0.05", "0.1")] == [0, 1]
    assert value(metrics, "dejaview_upload_to_verdict_seconds_count") == 3


class Behind:
    """Stands for `GroupConsumer`: how far each partition is behind."""

    def __init__(self, lags: Mapping[int, int]) -> None:
        self._lags = lags

    def lag(self, partition: int, _position: int) -> int:
        return self._lags[partition]


def test_the_oldest_unjudged_upload_is_that_of_the_partition_that_waits_longest() -> None:
    """One partition that stands still shows, however fast the others are; what is judged to its end does not.

    Breaks, each tried: the latest of the partitions; those that are not behind, too.
    """
    judge = Judge(Window(10), Memory(10), rule_of)
    owned = [Owned(0, judge, judged_to_ms=1_000.0), Owned(1, judge, judged_to_ms=2_000.0), Owned(2, judge)]
    metrics = Metrics(CollectorRegistry())

    def reported(lags: Mapping[int, int]) -> float | None:
        stage = DecideStage(
            Settings(), cast("Any", Behind(lags)), cast("Any", None), cast("Any", None),
            cast("Any", None), cast("Any", SimpleNamespace(all=owned)), cast("Any", None), metrics, Health(60),
        )  # fmt: skip
        stage._report_lag()
        return value(metrics, "dejaview_oldest_unjudged_upload_timestamp_seconds", stage="decide")

    assert reported({0: 0, 1: 3, 2: 5}) == 2.0
    assert reported({0: 1, 1: 3, 2: 5}) == 1.0
    assert value(metrics, "dejaview_consumer_lag_records", stage="decide") == 9
    assert reported({0: 0, 1: 0, 2: 0}) == 0


class Topics:
    """Stands for `Admin`: the configuration of topics, or a refusal."""

    def __init__(self, configs: Mapping[str, Mapping[str, str]] | None) -> None:
        self._configs = configs

    def describe_configs(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        if self._configs is None:
            raise NotPermitted("reading the configuration of a topic: no ACL")
        return {name: self._configs[name] for name in names}


class Once(Event):
    """Set after one round."""

    def wait(self, timeout: float | None = None) -> bool:
        return timeout != surveyed.FIRST_S


def surveys(stages: Sequence[str], configs: Mapping[str, Mapping[str, str]] | None, index: Index | None) -> Metrics:
    metrics = Metrics(CollectorRegistry())
    survey(metrics, Settings().topics, stages, cast("Admin", Topics(configs)), index, Once())
    return metrics


KEPT = {
    "dejaview.uploads": {"retention.ms": "60000"},
    "dejaview.fingerprints": {"retention.ms": "1000"},
    "dejaview.ledger": {"retention.ms": "-1"},
}


def test_retention_is_that_of_the_topic_that_a_stage_reads() -> None:
    """Without limit is infinity, which no lag comes near. Breaks, each tried: -0.001 s; all stages on every worker."""
    metrics = surveys(["encode", "index"], KEPT, MemoryIndex())
    assert value(metrics, "dejaview_topic_retention_seconds", stage="encode") == 60
    assert value(metrics, "dejaview_topic_retention_seconds", stage="index") == math.inf
    assert value(metrics, "dejaview_topic_retention_seconds", stage="decide") is None


class Away(MemoryIndex):
    def count_rows(self) -> int:
        raise IndexUnavailable("no answer")


def test_what_may_not_be_asked_stops_nothing() -> None:
    """DESCRIBE_CONFIGS is no right of a worker, and the index may be away. Break, tried: let the errors through."""
    metrics = surveys(["index"], None, Away())
    assert value(metrics, "dejaview_topic_retention_seconds", stage="index") is None
    assert value(metrics, "dejaview_index_rows") == 0


def test_failed_calls_are_counted_from_nought() -> None:
    """A series that appears with its first failure has no increase. Break: drop the loop in `Metrics.__init__`."""
    metrics = Metrics(CollectorRegistry())
    for stage in ("encode", "decide", "index"):
        assert value(metrics, "dejaview_index_errors_total", stage=stage) == 0
