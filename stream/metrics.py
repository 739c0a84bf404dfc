"""What Prometheus sees. Labels are bounded; no tenant, no upload id, no picture's content."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.events import Reason, VerdictKind

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 300)
_STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Fine around 0, where a verdict turns: the share near it says what a moved threshold would do.
_MARGIN = (-0.5, -0.3, -0.2, -0.15, -0.1, -0.05, -0.025, 0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
# Their counters of failed calls exist from the start: `increase` does not see a first failure that brings its series.
_STAGES = ("encode", "decide", "index")


class Metrics:
    """All metrics of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        # CPU, memory, open files and start time of this process; decoder processes are not in it.
        ProcessCollector(registry=self.registry)
        self.events = Counter("dejaview_events", "Records read, by stage.", ["stage"], registry=self.registry)
        self.verdicts = Counter(
            "dejaview_verdicts", "Verdicts published, repeats included.", ["verdict"], registry=self.registry
        )
        self.repeats = Counter(
            "dejaview_repeated_verdicts", "Verdicts published again for a sender's repeat.", registry=self.registry
        )
        self.dead_letters = Counter(
            "dejaview_dead_letters", "Dead letters published.", ["reason"], registry=self.registry
        )
        self.dropped = Counter(
            "dejaview_dropped_repeats", "Fingerprints dropped: their upload was judged.", registry=self.registry
        )
        self.latency = Histogram(
            "dejaview_upload_to_verdict_seconds",
            "From the upload record's Kafka timestamp to its committed verdict.",
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self.margin = Histogram(
            "dejaview_verdict_margin",
            "Score less the duplicate threshold of new verdicts that had a candidate: from 0 on duplicates.",
            buckets=_MARGIN,
            registry=self.registry,
        )
        self.step = Histogram(
            "dejaview_step_seconds", "Time of a step.", ["stage", "step"], buckets=_STEP_S, registry=self.registry
        )
        self.batch = Histogram(
            "dejaview_batch_items", "Items in a batch.", ["stage"], buckets=_BATCH, registry=self.registry
        )
        self.oldest = Gauge(
            "dejaview_oldest_unjudged_upload_timestamp_seconds",
            "Kafka timestamp of the oldest upload that waits in or before a stage, as far as it knows (0: none). "
            "time() less this is the stage's lag in seconds.",
            ["stage"],
            registry=self.registry,
        )
        self.panels = Counter(
            "dejaview_panels",
            "Parts of pictures encoded beside them: of collages, of screenshots. Each costs what a picture costs.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "dejaview_in_flight_uploads", "Uploads taken by ENCODE and not committed.", registry=self.registry
        )
        self.in_flight_bytes = Gauge(
            "dejaview_in_flight_bytes", "Bytes of uploads in flight in ENCODE.", registry=self.registry
        )
        self.window_rows = Gauge(
            "dejaview_window_rows", "Rows in the windows of all owned partitions.", registry=self.registry
        )
        self.window_fill = Gauge(
            "dejaview_window_fill_ratio",
            "Fullest window of an owned partition: its rows / decide.window_rows_max. From 1 on DECIDE waits there.",
            registry=self.registry,
        )
        self.memory_entries = Gauge(
            "dejaview_memory_entries", "Ledger entries remembered against repeats.", registry=self.registry
        )
        self.index_lag = Gauge(
            "dejaview_index_progress_lag_records", "Ledger records not in the index yet.", registry=self.registry
        )
        self.lag = Gauge(
            "dejaview_consumer_lag_records", "Records behind the end of the topic.", ["stage"], registry=self.registry
        )
        self.retention = Gauge(
            "dejaview_topic_retention_seconds",
            "retention.ms of the topic that a stage reads (+Inf: for ever; no series: DESCRIBE_CONFIGS is missing).",
            ["stage"],
            registry=self.registry,
        )
        self.revived = Gauge(
            "dejaview_revived_partitions",
            "Partitions that the Kafka client had stopped reading and that were taken anew.",
            ["stage"],
            registry=self.registry,
        )
        self.index_errors = Counter(
            "dejaview_index_errors", "Failed calls to the index.", ["stage"], registry=self.registry
        )
        self.broker_errors = Counter(
            "dejaview_broker_errors", "Failed calls to Kafka.", ["stage"], registry=self.registry
        )
        self.aborted = Counter(
            "dejaview_aborted_batches", "Batches thrown away and judged again.", ["cause"], registry=self.registry
        )
        self.indexed = Counter("dejaview_indexed_rows", "Rows inserted into the index.", registry=self.registry)
        self.index_rows = Gauge(
            "dejaview_index_rows", "Rows in the index, counted every five minutes by INDEX.", registry=self.registry
        )
        self.decoder_restarts = Gauge(
            "dejaview_decoder_restarts", "Decoder processes replaced.", registry=self.registry
        )
        self.paused = Gauge(
            "dejaview_paused_partitions", "Owned partitions that are not being read.", ["stage"], registry=self.registry
        )
        self.ready = Gauge("dejaview_ready", "1 when /readyz says yes.", registry=self.registry)
        self.info = Gauge(
            "dejaview_build_info",
            "1; the labels say what runs.",
            ["version", "model_id", "runtime"],
            registry=self.registry,
        )
        self.passed_over = Gauge(
            "dejaview_runtime_passed_over",
            "1: model.runtime auto would have preferred this runtime; why it is not what computes.",
            ["runtime", "why"],
            registry=self.registry,
        )
        for stage in _STAGES:
            self.index_errors.labels(stage)
            self.broker_errors.labels(stage)
        for reason in Reason:
            self.dead_letters.labels(reason)
        for verdict in VerdictKind:
            self.verdicts.labels(verdict)

    @contextmanager
    def timed(self, stage: str, step: str) -> Iterator[None]:
        """Observe the time of a step, failed or not."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.step.labels(stage, step).observe(time.perf_counter() - begun)

    def observe_steps(self, stage: str, seconds: Mapping[str, float]) -> None:
        """Observe steps that were timed elsewhere, by name."""
        for step, taken_s in seconds.items():
            self.step.labels(stage, step).observe(taken_s)
