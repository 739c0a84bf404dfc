"""Grafana's JSON for the little that the dashboards use of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Every series of the chosen deployments. `All` also matches where there is no such label, outside of Kubernetes.
CHOSEN = 'namespace=~"$namespace", job=~"$job"'

Kind = Literal["stat", "timeseries", "heatmap", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries`: expression -> legend. `limits`: where yellow and red begin; larger first: downwards."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    note: str = ""
    limits: tuple[float, float] | None = None
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its title."""

    title: str
    panels: Sequence[Panel]


def of(metric: str, **matchers: str) -> str:
    """A series of the chosen deployments: `of("dejaview_ready")`."""
    own = "".join(f', {name}="{value}"' for name, value in matchers.items())
    return f"{metric}{{{CHOSEN}{own}}}"


def rate(metric: str, **matchers: str) -> str:
    """How fast a counter grows."""
    return f"rate({of(metric, **matchers)}[$__rate_interval])"


def quantile(q: float, histogram: str, by: str = "le", **matchers: str) -> str:
    """A quantile of a histogram, apart by further labels."""
    return f"histogram_quantile({q}, sum by ({by}) ({rate(f'{histogram}_bucket', **matchers)}))"


def dashboard(uid: str, title: str, about: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A dashboard. The uid never changes: links go by it."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["dejaview"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [{"type": "dashboards", "tags": ["dejaview"], "title": "dejaview", "asDropdown": True,
                   "includeVars": True, "keepTime": True}],
        "templating": {"list": [_datasource(), _label("namespace", ""), _label("job", 'namespace=~"$namespace"')]},
        "panels": _laid_out(rows),
    }  # fmt: skip


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _label(name: str, where: str) -> dict[str, Any]:
    query = f"label_values(dejaview_ready{{{where}}}, {name})"
    return {
        "name": name, "label": name.capitalize(), "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    laid: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        laid.append({"id": len(laid) + 1, "type": "row", "title": row.title, "gridPos": place, "panels": []})
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            laid.append({"id": len(laid) + 1, "gridPos": place, **_json(panel)})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return laid


def _json(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": DATASOURCE,
        "targets": [_target(panel, n, *query) for n, query in enumerate(panel.queries.items())],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(panel: Panel, number: int, expr: str, legend: str) -> dict[str, Any]:
    shape = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    now = {"instant": True, "range": False} if panel.kind in {"stat", "table"} else {"instant": False, "range": True}
    return {"refId": chr(ord("A") + number), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend,
            "format": shape, **now}  # fmt: skip


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal", "group": "A"} if panel.stacked else {"mode": "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 30 if panel.stacked else 8, "showPoints": "never", "stacking": stacking}
        defaults["min"] = 0
    if panel.limits is not None:
        first, second = panel.limits
        # Where more is better, what is below the lower is red.
        colours = ("green", "yellow", "red") if first < second else ("red", "yellow", "green")
        values = (None, *sorted(panel.limits))
        steps = [{"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        colour = "background" if panel.limits is not None else "none"
        return {"colorMode": colour, "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"mode": "scheme", "scheme": "Blues"}}
    return {}
