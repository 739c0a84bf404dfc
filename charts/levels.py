"""The service levels: `files/rules/levels.yaml` of the chart, written by `python -m charts.generate`.

For each level how much of its error budget is used up, over windows of 5 minutes to 3 days, and alerts on how fast
(Google's SRE workbook, "Alerting on SLOs"): the long window, so that it matters, and the short one, so that it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

BY = "by (namespace, job)"
# A deployment that nobody uses much must wake nobody for one slow answer.
BAD_MIN = 10
# What a sender cannot cause: the rest are dead letters because of what was sent.
OWN_REASONS = ("bad_fingerprint", "foreign_model", "store_unavailable", "wrong_partition")
STALE_S = 60
TARGET_S = 0.25
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

_ANSWERS = "dejaview_upload_to_verdict_seconds_count"
_IN_TIME = f'dejaview_upload_to_verdict_seconds_bucket{{le="{TARGET_S}"}}'
_OWN = 'dejaview_dead_letters_total{reason=~"' + "|".join(OWN_REASONS) + '"}'
_TARGET = f"{TARGET_S * 1000:g} ms"
_HEAD = "# Written by `python -m charts.generate` from charts/levels.py. Change that.\n"


@dataclass(frozen=True, slots=True)
class Burn:
    """How many times too fast the budget burns, seen over which windows; after how long it is said, to whom."""

    factor: float
    long: str
    short: str
    wait: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "2m", "page"),
    Burn(6, "6h", "30m", "5m", "page"),
    Burn(3, "1d", "2h", "15m", "ticket"),
    Burn(1, "3d", "6h", "1h", "ticket"),
)


@dataclass(frozen=True, slots=True)
class Level:
    """A service level.

    `bad` is the share that missed it in a window, `many` how many answers that were (empty: not asked for); `{w}` in
    them is the window. `budget`: the share that may miss it.
    """

    name: str
    alert: str
    budget: float
    bad: str
    many: str
    summary: str
    description: str

    def record(self, window: str) -> str:
        return f"dejaview:{self.name}:ratio_{window}"


LEVELS = (
    Level(
        "slow",
        "DejaviewAnswersSlow",
        0.01,
        f"1 - sum {BY} (rate({_IN_TIME}[{{w}}])) / sum {BY} (rate({_ANSWERS}[{{w}}]))",
        f"sum {BY} (increase({_ANSWERS}[{{w}}])) - sum {BY} (increase({_IN_TIME}[{{w}}]))",
        f"Too many uploads wait longer than {_TARGET} for their verdict.",
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.job }} came later than "
        f"{_TARGET} after their upload; the service level allows 1 %.",
    ),
    Level(
        "failed",
        "DejaviewUploadsNotJudged",
        0.001,
        f"sum {BY} (rate({_OWN}[{{w}}])) / sum {BY} (rate({_ANSWERS}[{{w}}]))",
        f"sum {BY} (increase({_OWN}[{{w}}]))",
        "Uploads end as dead letters through no fault of their senders.",
        "{{ $value | humanizePercentage }} of the uploads of {{ $labels.job }} got a dead letter for a reason that "
        "their senders cannot cause; the service level allows 0.1 %.",
    ),
    Level(
        "stale",
        "DejaviewUploadsWait",
        0.001,
        f"max {BY} (avg_over_time(dejaview:stale:bool[{{w}}]))",
        "",
        f"Uploads wait for more than {STALE_S} s: nobody gets a verdict, or some partition stands still.",
        f"In {{{{ $value | humanizePercentage }}}} of the time an upload of {{{{ $labels.job }}}} waited for more than "
        f"{STALE_S} s; the service level allows 0.1 %.",
    ),
)


def rules_text() -> str:
    """The file."""
    groups = [{"name": "dejaview.figures", "rules": _figures()}]
    groups += [{"name": f"dejaview.{level.name}", "rules": [*_records(level), *_alerts(level)]} for level in LEVELS]
    return _HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000, allow_unicode=True)


def _figures() -> list[dict[str, Any]]:
    """What levels, alerts and dashboards share."""
    oldest = "dejaview_oldest_unjudged_upload_timestamp_seconds"
    behind = f'sum {BY} (dejaview_consumer_lag_records{{stage="encode"}}) > bool 0'
    return [
        {
            "record": "dejaview:lag:seconds",
            "expr": f"max by (namespace, job, stage) ((time() - {oldest}) * ({oldest} > bool 0))",
        },
        {
            "record": "dejaview:retention_left:ratio",
            "expr": "1 - dejaview:lag:seconds / min by (namespace, job, stage) (dejaview_topic_retention_seconds)",
        },
        {
            # ENCODE may hold one reference for as long as its store is away: all wait when more is behind it.
            "record": "dejaview:stale:bool",
            "expr": f'(max {BY} (dejaview:lag:seconds{{stage="encode"}}) > bool {STALE_S}) * ({behind})',
            "labels": {"stage": "encode"},
        },
        {
            "record": "dejaview:stale:bool",
            "expr": f'max {BY} (dejaview:lag:seconds{{stage="decide"}}) > bool {STALE_S}',
            "labels": {"stage": "decide"},
        },
    ]


def _records(level: Level) -> list[dict[str, Any]]:
    return [{"record": level.record(window), "expr": level.bad.replace("{w}", window)} for window in WINDOWS]


def _alerts(level: Level) -> list[dict[str, Any]]:
    return [_alert(level, burn) for burn in BURNS]


def _alert(level: Level, burn: Burn) -> dict[str, Any]:
    limit = f"{burn.factor * level.budget:g}"
    expr = f"{level.record(burn.long)} > {limit} and {level.record(burn.short)} > {limit}"
    if level.many:
        expr += f" and ({level.many.replace('{w}', burn.long)}) >= {BAD_MIN}"
    return {
        "alert": level.alert,
        "expr": expr,
        "for": burn.wait,
        "labels": {"severity": burn.severity, "window": burn.long},
        "annotations": {
            "summary": level.summary,
            "description": f"{level.description} Over {burn.long} the budget burns {burn.factor:g} times too fast.",
            "runbook_url": f"docs/runbook.md#{level.alert.lower()}",
        },
    }
