"""A report as one HTML page that needs nothing else: tables and pictures."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from string import Template

from models.evaluation.table import html_table
from ops.bench.result import Plot, Report
from stream.errors import SettingError

TEMPLATE = Path(__file__).with_name("page.html")


def html(report: Report) -> str:
    """The page.

    Raises:
        SettingError: matplotlib, which draws, is not installed.
    """
    parts = "".join(
        f"{html_table(part.table)}<div class='plots'>{''.join(f'<div>{svg(plot)}</div>' for plot in part.plots)}</div>"
        for part in report.parts
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        machine=escape(report.machine), at=escape(report.at), command=escape(report.command), parts=parts
    )


def svg(plot: Plot) -> str:
    """Curves, as an SVG element."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `bench`
    except ImportError as error:
        raise SettingError(f"--html draws with matplotlib ({error}): pip install 'dejaview[bench]'") from error
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for line in plot.lines:
        axes.plot(line.x, line.y, marker="o", label=line.name)
    axes.set(title=plot.title, xlabel=plot.x_name, ylabel=plot.y_name)
    if plot.logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    out = io.StringIO()
    figure.savefig(out, format="svg")
    drawn = out.getvalue()
    return drawn[drawn.index("<svg") :]
