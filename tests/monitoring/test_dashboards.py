"""The dashboards are those of `charts/dashboards.py`, and say the same to everybody: uids, variables, units."""

from __future__ import annotations

import re
from typing import Any

import pytest

from charts.dashboards import dashboard_text, dashboards
from charts.generate import CHART

FILES = {path.stem: path for path in (CHART / "files" / "dashboards").glob("*.json")}
UIDS = {name: f"dejaview-{name}" for name in ("overview", "latency", "verdicts", "index", "workers")}


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboards()[name]["panels"] if panel["type"] != "row"]


def test_the_files_are_written_anew() -> None:
    """Break: change one by hand. Mend it with `python -m charts.generate`."""
    assert {name: path.read_text() for name, path in FILES.items()} == {
        name: dashboard_text(content) for name, content in dashboards().items()
    }


def test_uids_stay() -> None:
    """Bookmarks and links go by them. Break: rename one."""
    assert {name: content["uid"] for name, content in dashboards().items()} == UIDS


@pytest.mark.parametrize("name", UIDS)
def test_every_query_follows_the_variables(name: str) -> None:
    """Data source, namespace and job are chosen above; rates fit the scrape interval. Break: a query without them."""
    for panel in panels(name):
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            expr = target["expr"]
            chosen = expr.count('namespace=~"$namespace", job=~"$job"')
            assert chosen == len(re.findall(r"\b(?:dejaview|process)[_:]\w[\w:]*\{|ALERTS\{", expr)) > 0, expr
            assert len(re.findall(r"\b(?:dejaview|process)[_:]", expr)) <= chosen, expr
            windows = set(re.findall(r"\[([^]]+)\]", expr))
            assert windows <= ({"1h"} if panel["type"] == "stat" else set()) | {"$__rate_interval"}, expr


@pytest.mark.parametrize("name", UIDS)
def test_panels_have_units_and_do_not_overlap(name: str) -> None:
    """Break: a panel that begins where another is."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboards()[name]["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels(name))


def test_the_first_row_answers_whether_users_are_fine() -> None:
    """Break: another row first."""
    row, *rest = dashboards()["overview"]["panels"]
    assert row["title"] == "Are users fine?"
    first = [panel["title"] for panel in rest if panel["gridPos"]["y"] == 1]
    assert len(first) == 6
    assert all(panel["type"] == "stat" for panel in rest[:6])
