"""`dejaview calibrate`: thresholds that keep what was stated."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml

from models.calibration import Calibration
from models.edits import EDITS
from models.manifest import BUILT_IN, read_manifest
from ops.cli.main import main
from stream.config import Settings
from tests.support.photos import NAMES, photo


def write(file: Path, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Path:
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([columns, *rows])
    return file


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """200 copies from .3 to .7, 200 others from 0 to .4: of those at or above .4 all are copies."""
    rows = [(score, 1) for score in np.linspace(0.3, 0.7, 200)] + [(score, "no") for score in np.linspace(0, 0.4, 200)]
    return write(tmp_path / "scores.csv", ("score", "copy"), rows)


def test_a_tenants_thresholds_are_settings(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed can be pasted into the settings, and keeps what was stated. Break: print the review first."""
    assert (
        main(["calibrate", "pairs", str(scores), "--tenant", "acme", "--precision", ".95", "--review-share", ".05"])
        == 0
    )
    told = yaml.safe_load(capsys.readouterr().out)
    thresholds = Settings(**told).tenants.thresholds["acme"]
    assert 0.36 < thresholds.review < thresholds.duplicate <= 0.41
    del tmp_path


def test_a_weights_folder_for_all_tenants(scores: Path, tmp_path: Path) -> None:
    """The same model id (the index stays), other thresholds; a second time is refused. Break: fit a background, too."""
    out = tmp_path / "weights"
    assert main(["calibrate", "pairs", str(scores), "--out", str(out)]) == 0
    made = Calibration.load(out)
    assert made.model_id == read_manifest(BUILT_IN).model_id
    assert made.fitted_on == {"copies": 200, "others": 200}
    assert made.measured["duplicate_precision"] >= 0.99
    assert made.duplicate_threshold != Calibration.load().duplicate_threshold
    assert main(["calibrate", "pairs", str(scores), "--out", str(out)]) == 2


def test_pictures_are_scored_as_the_decision_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs of files, relative to the table: copies and others are told apart. Break: leave out the bias."""
    copies, others = [], []
    for name in NAMES:
        photo(name).save(tmp_path / f"{name}.png")
        for edit in ("jpeg_30", "grey", "mirror", "crop_70", "caption", "brightness"):
            EDITS[edit](photo(name), Random(1)).save(tmp_path / f"{name}-{edit}.png")
            copies.append((f"{name}.png", f"{name}-{edit}.png", "yes"))
        others += [(f"{name}.png", f"{other}-grey.png", "no") for other in NAMES if other != name]
    table = write(tmp_path / "pairs.csv", ("first", "second", "copy"), [*copies, *others])
    assert main(["calibrate", "pairs", str(table)]) == 0
    told = capsys.readouterr().out
    assert f"{len(copies) + len(others)} pairs, {len(copies)} of them copies" in told
    found = yaml.safe_load(told)["tenants"]["thresholds"]["TENANT"]
    assert 0.0 < found["duplicate"] < 0.6


@pytest.mark.parametrize(
    ("columns", "rows", "says"),
    [
        (("score", "copy"), [(0.5, 1)] * 60, "60 copies and 0 others; at least 50"),
        (("score", "copy"), [(0.5, "perhaps")], "line 2: copy is 'perhaps'"),
        (("score", "copy"), [("high", 1), *[(0.5, 1)] * 60, *[(0.1, 0)] * 60], "line 2: score is 'high'"),
        (("a", "b", "copy"), [(0, 0, n % 2) for n in range(200)], "columns a, b, copy; first, second, copy or score"),
        (("score", "copy"), [(0.5, n % 2) for n in range(200)], "too few to fit a table"),
        (("first", "second", "copy"), [("no.png", "no.png", n % 2) for n in range(200)], "no.png is no folder"),
    ],
)
def test_a_wrong_table_is_told(
    tmp_path: Path,
    columns: tuple[str, ...],
    rows: Sequence[tuple[object, ...]],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """File, line and what is wanted. Break: skip what cannot be read."""
    assert main(["calibrate", "pairs", str(write(tmp_path / "wrong.csv", columns, rows))]) == 2
    assert says in capsys.readouterr().err


def test_labels_the_wrong_way_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies with low scores, others with high: no threshold keeps the precision. Break: take the highest score."""
    rows = [(n / 1000, 1) for n in range(100)] + [(0.5 + n / 1000, 0) for n in range(100)]
    assert main(["calibrate", "pairs", str(write(tmp_path / "w.csv", ("score", "copy"), rows))]) == 2
    assert "no score reaches precision 0.99" in capsys.readouterr().err
