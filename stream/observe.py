"""What DECIDE tells `Metrics` of a batch that is committed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from schemas.events import Verdict
from stream.judge import Outcome, Work
from stream.metrics import Metrics

STAGE = "decide"


def uploaded_ms(work: Work, backfill: str) -> float:
    """Since when an upload is waited for; nobody waits for one of the topic `backfill`: as if it came just now."""
    return time.time() * 1000 if work.record.source_topic == backfill else work.record.upload_timestamp_ms


def youngest_s(works: Sequence[Work], backfill: str) -> float:
    """The age of the latest upload that somebody waits for; infinite when all are of the topic `backfill`."""
    waited = [work.record.upload_timestamp_ms for work in works if work.record.source_topic != backfill]
    return time.time() - max(waited) / 1000 if waited else math.inf


def observe(metrics: Metrics, outcomes: Sequence[Outcome], backfill: str) -> None:
    """Count a committed batch's answers; the latency of those alone that somebody waits for."""
    now_ms = time.time() * 1000
    metrics.events.labels(STAGE).inc(len(outcomes))
    metrics.batch.labels(STAGE).observe(len(outcomes))
    for outcome in outcomes:
        entry = outcome.entry
        if entry is None:
            metrics.dropped.inc()
            continue
        if entry.source_topic != backfill:
            metrics.latency.observe(max(0.0, now_ms - entry.upload_timestamp_ms) / 1000)
        if entry.dead_letter is not None:
            metrics.dead_letters.labels(entry.dead_letter.reason).inc()
        if entry.verdict is not None:
            _verdict(metrics, entry.verdict)


def _verdict(metrics: Metrics, verdict: Verdict) -> None:
    metrics.verdicts.labels(verdict.verdict).inc()
    metrics.repeats.inc(verdict.repeat)
    if verdict.margin is not None and not verdict.repeat:
        metrics.margin.observe(verdict.margin)
