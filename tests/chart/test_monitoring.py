"""Every rule and dashboard in the chart's folder is shipped as it is, and every worker's metrics are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.helm import CHART, render

ON = {"metrics": {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboards")}}
RULES = """\
# A comment.
groups:
  - name: dejaview
    rules:
      - alert: Behind
        expr: max by (stage) (dejaview_consumer_lag_records) > 1000
        annotations: {summary: "{{ $labels.stage }} is {{ $value }} behind"}
"""
DASHBOARD = {"uid": "dejaview", "panels": [{"legend": "{{ stage }}", "text": "a\nb"}]}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """The chart with rules and dashboards of our own."""
    folder = tmp_path / "dejaview"
    shutil.copytree(CHART, folder)
    for kind in ("rules", "dashboards"):
        shutil.rmtree(folder / "files" / kind, ignore_errors=True)
        (folder / "files" / kind).mkdir(parents=True)
    for name in ("alerts", "levels"):
        (folder / "files" / "rules" / f"{name}.yaml").write_text(RULES)
        (folder / "files" / "dashboards" / f"{name}.json").write_text(json.dumps(DASHBOARD, indent=2))
    return folder


def test_every_rule_file_is_a_prometheus_rule(chart: Path) -> None:
    """Unchanged: `{{ … }}` in it is Prometheus's. Breaks, each tried: `tpl` over the file; only the first file."""
    values = {"metrics": {**ON["metrics"], "rules": {"enabled": True, "labels": {"release": "prometheus"}}}}
    rules = render(values=values, chart=chart).of("PrometheusRule")
    assert [rule["metadata"]["name"] for rule in rules] == ["shop-alerts", "shop-levels"]
    for rule in rules:
        assert rule["spec"] == yaml.safe_load(RULES)
        assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_every_dashboard_is_a_config_map_for_the_sidecar(chart: Path) -> None:
    """Break, tried: no label."""
    maps = [one for one in render(values=ON, chart=chart).of("ConfigMap") if "dashboard" in one["metadata"]["name"]]
    assert [one["metadata"]["name"] for one in maps] == ["shop-dashboard-alerts", "shop-dashboard-levels"]
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((name, text),) = one["data"].items()
        assert name.endswith(".json")
        assert json.loads(text) == DASHBOARD


def test_the_charts_own_files_are_all_shipped() -> None:
    """Those of the checkout, however many there are by now."""
    rendered = render(values=ON)
    rules, dashboards = (
        sorted((CHART / "files" / kind).glob(f"*.{suffix}"))
        for kind, suffix in (("rules", "yaml"), ("dashboards", "json"))
    )
    assert [rule["spec"] for rule in rendered.of("PrometheusRule")] == [
        yaml.safe_load(one.read_text()) for one in rules
    ]
    shipped = [text for one in rendered.of("ConfigMap") for name, text in one["data"].items() if name.endswith(".json")]
    assert [json.loads(text) for text in shipped] == [json.loads(one.read_text()) for one in dashboards]


def test_all_workers_are_read_also_those_that_are_not_ready() -> None:
    """The monitor selects the Service, the Service selects the pods. Break, tried: the Job's pods selected, too."""
    rendered = render(values=ON)
    monitor = rendered.named("ServiceMonitor")["spec"]
    met = [
        one for one in rendered.of("Service")
        if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]  # fmt: skip
    assert [one["metadata"]["name"] for one in met] == ["shop-metrics"]
    spec = met[0]["spec"]
    assert spec["publishNotReadyAddresses"] is True
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] == spec["ports"][0]["name"] == "health"
    for stage, selected in {"encode": True, "decide": True, "index": True, "topics": False}.items():
        labels = rendered.workload(stage)["spec"]["template"]["metadata"]["labels"]
        assert (spec["selector"].items() <= labels.items()) is selected, stage


def test_nothing_needs_the_operators_unless_told_to() -> None:
    kinds = {one["apiVersion"] for one in render().manifests}
    assert kinds == {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1"}
