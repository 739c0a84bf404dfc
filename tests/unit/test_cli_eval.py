"""R12: `dejaview eval` is one command that prints a table per edit and writes it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.edits import EDITS, UNTRAINED
from models.evaluation.result import Evaluation
from ops.cli.main import main
from tests.support.photos import NAMES, photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for name in (*NAMES, "clock_motion.png"):
        photo(name, 260).save(made / f"{name}.png")
    return made


@pytest.fixture(scope="module")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with all outputs."""
    made = tmp_path_factory.mktemp("out")
    files = [f"--{name}={made / name}" for name in ("json", "markdown", "html")]
    assert main(["eval", str(folder), "--baselines", "PDQ", *files]) == 0
    return made


def test_every_edit_has_its_row(out: Path) -> None:
    """45 edits, those of the six untrained families marked. Break: leave an edit out of `families`."""
    text = (out / "markdown").read_text()
    rows = [line.split("|")[1].strip() for line in text[text.index("## Recall per edit") :].splitlines() if "|" in line]
    assert {row.removesuffix(" *") for row in rows} >= set(EDITS)
    assert sum(row.endswith(" *") for row in rows) == len(UNTRAINED) == 6
    assert "1 to 1" in text
    assert "McNemar" in text


def test_the_json_is_the_evaluation(out: Path) -> None:
    """It decodes into the model it was written from; figures lie in their intervals. Break: round before the JSON."""
    of = Evaluation.model_validate_json((out / "json").read_text())
    assert set(of.methods) == {"dejaview", "PDQ"}
    assert of.counts.queries_with_original == 10 * len(EDITS)
    for figures in of.methods.values():
        for interval in (figures.micro_ap, figures.recall_at_90, figures.mean_recall_at_99):
            assert 0 <= interval.low <= interval.value + 1e-9
            assert interval.value <= interval.high + 1e-9 <= 1 + 2e-9
    assert of.methods["dejaview"].micro_ap.value > of.methods["PDQ"].micro_ap.value
    assert of.hard_negatives is None


def test_the_page_stands_alone(out: Path) -> None:
    """Curves, cards and tables without script or network. Break: link a style sheet."""
    page = (out / "html").read_text()
    assert page.count("<polyline") == 2
    assert page.count("<figure>") > 3
    assert "<script" not in page
    assert "src='data:image/jpeg" in page


def test_the_test_part_needs_a_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ruler does not bend by being looked at again and again. Break: drop the check."""
    assert main(["eval", str(folder), "--split", "test"]) == 2
    assert "--test-run" in capsys.readouterr().err


def test_too_few_photos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(folder), "--split", "tune"]) == 2
    assert "0 photos; at least 10" in capsys.readouterr().err
    assert main(["eval", "/nowhere"]) == 2
    assert "/nowhere is no folder, tar file or picture" in capsys.readouterr().err


def test_the_json_has_no_surprises(out: Path) -> None:
    assert json.loads((out / "json").read_text())["seed"] == 0
