"""R13: alerts fire when a promise breaks, and only then; each has its page of the runbook."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate import CHART
from charts.levels import rules_text
from ops.local.errors import LocalError
from tests.monitoring.alert_cases import CASES, LEVELS, Case, notation
from tests.support.missing import is_missing
from tests.support.prometheus import program

RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
RUNBOOK = CHART.parents[1] / "docs" / "runbook.md"
SEVERITIES = {"page", "ticket"}
PARTS = ("Users feel", "Confirm", "Causes", "Do", "Resolves")


@pytest.fixture(scope="module")
def promtool() -> str:
    try:
        return program("promtool")
    except LocalError as error:
        is_missing(str(error))


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_levels_are_written_anew() -> None:
    """Break: change a number in the file. Mend it with `python -m charts.generate`."""
    assert (CHART / "files" / "rules" / "levels.yaml").read_text() == rules_text()


def test_the_rules_are_prometheus_rules(promtool: str) -> None:
    """As they are, templates included. Break: a bracket less in an expression or in a description."""
    ended = subprocess.run([promtool, "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_alert_fires_when_it_should_and_only_then(promtool: str, tmp_path: Path, case: Case) -> None:
    """Not two minutes earlier, either. Breaks, tried for each alert: turn a comparison round; do not wait."""
    alert = {"alertname": case.alert, "alertstate": "firing"}
    expected = [{"labels": notation("ALERTS", {**alert, **labels}), "value": 1} for labels in case.fires]
    tests = [{"expr": notation("ALERTS", alert), "eval_time": f"{case.at}m", "exp_samples": expected}]
    if case.fires and case.at > 1 and case not in LEVELS:
        tests.append({"expr": notation("ALERTS", alert), "eval_time": f"{case.at - 2}m", "exp_samples": []})
    test = {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": tests,
    }
    file = tmp_path / "case.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(path) for path in RULES], "evaluation_interval": "1m", "tests": [test]})
    )
    ended = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_seen_firing_and_silent() -> None:
    """Break: a new alert without cases."""
    names = {rule["alert"] for rule in alerts()}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    """Break: leave out an annotation; an address of another section."""
    for rule in alerts():
        assert rule["labels"]["severity"] in SEVERITIES, rule["alert"]
        notes = rule["annotations"]
        assert notes["summary"].endswith("."), rule["alert"]
        assert notes["description"].endswith((".", "}}")), rule["alert"]
        assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_alert_has_its_section_of_the_runbook_and_no_other_has() -> None:
    """Each says what users feel, how to confirm, why it happens, what to do and how it ends. Break: rename an alert."""
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    by_alert = {section.splitlines()[0]: section for section in sections}
    severities: dict[str, set[str]] = defaultdict(set)
    for rule in alerts():
        severities[rule["alert"]].add(rule["labels"]["severity"])
    assert by_alert.keys() == severities.keys()
    for alert, section in by_alert.items():
        assert [part for part in PARTS if f"**{part}**" not in section] == [], alert
        first = section.splitlines()[2].partition(":")[0].lower()
        assert {severity for severity in SEVERITIES if severity in first} == severities[alert], alert
