"""`dejaview bench` runs here and puts each figure beside its limit. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.cli.main import main

SMALL = ["--uploads", "64", "--fingerprints", "400", "--rows", "800", "--seconds", "0.5"]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("kafka", "milvus_uri")
def test_bench_measures_every_part(tmp_path: Path) -> None:
    """Its servers are its own; the fixtures only say whether this machine can have them."""
    files = {name: tmp_path / f"report.{name}" for name in ("json", "markdown", "html")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    assert main(["bench", "all", *SMALL, *options]) == 0
    report = json.loads(files["json"].read_text())
    assert [part["name"] for part in report["parts"]] == ["decode", "encode", "decide", "index", "latency"]
    figures = {figure["what"]: figure for part in report["parts"] for figure in part["figures"]}
    assert all(figure["value"] > 0 for figure in figures.values())
    assert figures["exactly_once: highest rate"]["beside"] == "bare loop"
    assert figures["exactly_once: CPU an image"]["ratio"] > 0
    assert figures["800 rows: recall@1 of edited copies"]["value"] > 0.9
    assert "at_least_once: at 50% of it" in " ".join(figures)
    assert files["html"].read_text().count("<svg") == 4
    assert "| bare loop |" in files["markdown"].read_text()
