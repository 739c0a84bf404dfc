"""A dashboard as a picture: the same panels from the same queries, where no Grafana can be installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Labels -> [(seconds since 1970, value)], of a PromQL query over the time of the picture.
Series = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float]]]]
Ask = Callable[[str], Series]

COLUMNS, ROW_INCHES, WIDTH_INCHES = 24, 0.42, 15.0
PAGE, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#2c3235"
LINES = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9")
NAMED = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}


def draw(dashboard: Mapping[str, Any], ask: Ask, out: Path) -> list[str]:
    """Write the panels of a dashboard as a PNG; returns the titles of those that had nothing to show.

    Args:
        dashboard: as Grafana reads it; rows, stats and time series.
        ask: answers a query in which Grafana's variables still stand.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `bench`

    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"]) + 1
    figure = Figure(figsize=(WIDTH_INCHES, rows * ROW_INCHES), facecolor=PAGE, dpi=80)
    figure.text(0.012, 1 - 0.55 / rows, dashboard["title"], color=TEXT, size=14, weight="bold", va="center")
    empty = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - (place["y"] + 1) / rows
        if panel["type"] == "row":
            figure.text(left + 0.012, top - 0.6 / rows, panel["title"], color=TEXT, size=11, va="center")
            continue
        width, height = place["w"] / COLUMNS, place["h"] / rows
        axes = figure.add_axes((left + 0.004, top - height + 0.1 / rows, width - 0.008, height - 0.2 / rows))
        axes.set(facecolor=PANEL, xticks=[], yticks=[])
        axes.spines[:].set_color(FAINT)
        axes.text(0.02, 0.95, panel["title"], color=TEXT, size=9.5, va="top", transform=axes.transAxes)
        found = [(target.get("legendFormat", ""), ask(target["expr"])) for target in panel["targets"]]
        if not any(points for _, series in found for _, points in series):
            empty.append(panel["title"])
        elif panel["type"] == "stat":
            _stat(axes, panel["fieldConfig"]["defaults"], [series for _, series in found])
        else:
            inner = figure.add_axes((left + 0.035, top - height + 1.5 / rows, width - 0.05, height - 2.7 / rows))
            _curves(inner, panel["fieldConfig"]["defaults"], found)
    figure.savefig(out, facecolor=PAGE)
    return empty


def shown(value: float, unit: str) -> str:
    """A value in a panel's unit."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{1000 * value:.3g} ms"
    return f"{value:.3g}" + ("/s" if unit == "cps" else "")


def _stat(axes: Axes, defaults: Mapping[str, Any], answers: Sequence[Series]) -> None:
    value = next(points[-1][1] for series in answers for _, points in series if points)
    color = TEXT
    for step in defaults.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = NAMED[step["color"]]
    axes.text(
        0.5, 0.42, shown(value, defaults["unit"]), color=color, size=24, weight="bold", ha="center", va="center",
        transform=axes.transAxes,
    )  # fmt: skip


def _curves(axes: Axes, defaults: Mapping[str, Any], found: Sequence[tuple[str, Series]]) -> None:
    axes.set(facecolor=PANEL)
    axes.spines[:].set_visible(False)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.tick_params(colors=TEXT, labelsize=7.5, length=0)
    lines = [(_legend(form, labels), points) for form, series in found for labels, points in series if points]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    times = sorted({at for _, points in lines for at, _ in points})
    below = [0.0] * len(times)
    for number, (name, points) in enumerate(lines):
        values = dict(points)
        heights = [values.get(at, math.nan) for at in times]
        color = LINES[number % len(LINES)]
        if stacked:
            above = [low + (0.0 if math.isnan(high) else high) for low, high in zip(below, heights, strict=True)]
            axes.fill_between(times, below, above, color=color, alpha=0.45, linewidth=0)
            heights, below = above, above
        axes.plot(times, heights, color=color, linewidth=1.2, label=name)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, defaults["unit"]))
    axes.xaxis.set_major_formatter(lambda value, _: strftime("%H:%M", gmtime(value)))
    axes.set_ylim(bottom=0)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=4, frameon=False, fontsize=7.5, labelcolor=TEXT,
        handlelength=1.0, columnspacing=1.0,
    )  # fmt: skip


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return form
