"""R13: every metric, label and recorded series that a rule, a dashboard or the runbook names is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_client import Histogram
from prometheus_client.utils import floatToGoString

from charts.generate import CHART
from charts.metrics import labels, metrics, series_names, shown_name
from schemas.events import Reason, VerdictKind
from stream.service import Stage

RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RUNBOOK = CHART.parents[1] / "docs" / "runbook.md"
NAME = re.compile(r"\b(?:dejaview|process)(?:_[a-z0-9_]+|:[a-z0-9_:]+)")
MATCHER = re.compile(r"\b([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
BUCKET = re.compile(r'(dejaview_\w+)_bucket\{[^}]*\ble="([^"]+)"')
# Of the scrape and of Prometheus, not of the program.
OUTER = {"namespace", "job", "instance", "alertname", "alertstate"}
VALUES = {
    "stage": {str(stage) for stage in Stage},
    "reason": {str(reason) for reason in Reason},
    "verdict": {str(verdict) for verdict in VerdictKind},
}


def rules() -> list[dict[str, Any]]:
    return [rule for p in RULES for group in yaml.safe_load(p.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in DASHBOARDS:
        for target in targets(json.loads(path.read_text())):
            yield path.name, target


def targets(node: Any) -> Iterator[str]:
    """All queries of a dashboard, those of its variables included."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"expr", "query", "definition"} and isinstance(value, str):
                yield value
            else:
                yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def known() -> set[str]:
    return series_names() | {rule["record"] for rule in rules() if "record" in rule}


def test_every_series_that_a_query_names_is_there() -> None:
    """Break, tried: a metric renamed in the program."""
    assert DASHBOARDS
    found = {(where, name) for where, query in queries() for name in NAME.findall(query)}
    assert {(where, name) for where, name in found if name not in known()} == set()


def test_every_series_that_the_runbook_names_is_there() -> None:
    """Break: a metric renamed in the program."""
    found = set(NAME.findall(RUNBOOK.read_text()))
    assert found - known() == set()


def test_every_label_that_a_query_names_is_there() -> None:
    """With a value that it may have. Breaks, each tried: `by (stages)`; `stage="decides"`."""
    names = OUTER | {"le"} | {label for metric in metrics() for label in labels(metric)}
    for where, query in queries():
        text = query.replace("$__rate_interval", "5m")
        grouped = {name.strip() for found in GROUPED.findall(text) for name in found.split(",")} - {""}
        matched = {name for name, _ in MATCHER.findall(text)}
        assert grouped | matched <= names, (where, query)
        for name, value in MATCHER.findall(text):
            if name in VALUES:
                assert set(value.split("|")) <= VALUES[name], (where, query)


def test_the_target_is_a_bucket() -> None:
    """A level over `le` that is no bucket has no series and never burns. Break: 0.26 in `charts/levels.py`."""
    bounds = {
        shown_name(metric): {_as_written(bound) for bound in metric._upper_bounds}
        for metric in metrics()
        if isinstance(metric, Histogram)
    }
    found = {bucket for _, query in queries() for bucket in BUCKET.findall(query)}
    assert {name for name, _ in found} == {"dejaview_upload_to_verdict_seconds", "dejaview_verdict_margin"}
    for name, bound in found:
        assert bound in bounds[name], name


def _as_written(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
