"""Promise: a higher score never means less confidence, and the thresholds are the fitted ones."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.calibration import Calibration
from models.fit.calibration import SPLIT, TUNED_ON, isotonic, likelier_from, table, threshold
from models.manifest import BUILT_IN, CALIBRATION, read_manifest, refresh_manifest
from models.training.edits import EDITS
from stream.errors import SettingError

outcomes = st.lists(st.tuples(st.floats(-1, 1, width=32), st.booleans()), min_size=2, max_size=80)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((BUILT_IN / CALIBRATION).read_text())
    return loaded


def test_built_in_calibration_says_what_it_is() -> None:
    """It is provisional, for this model, with counts, figures and the command. Break: another model_id."""
    calibration = Calibration.load()
    assert calibration.provisional
    assert calibration.model_id == read_manifest(BUILT_IN).model_id
    assert -1 < calibration.review_threshold < calibration.duplicate_threshold < 1
    assert calibration.measured["duplicate_precision"] >= 0.99
    assert calibration.confidence(calibration.duplicate_threshold) >= 0.5
    assert set(calibration.recall_per_edit) == set(EDITS)
    assert calibration.fitted_on["photos"] == TUNED_ON
    assert calibration.command.startswith("python -m models.fit calibration")
    assert 20 <= len(calibration.scores) <= 50


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_confidence_is_a_rising_probability(one: float, other: float) -> None:
    """0 to 1 for any score, and never lower for a higher one. Break: reverse the probabilities."""
    calibration = Calibration.load()
    low, high = (calibration.confidence(score) for score in sorted((one, other)))
    assert 0 <= low <= high <= 1


def test_confidence_tells_copies_from_others() -> None:
    """Far below the review threshold it is near 0, far above the duplicate threshold near 1."""
    calibration = Calibration.load()
    assert calibration.confidence(calibration.review_threshold - 0.15) < 0.05
    assert calibration.confidence(calibration.duplicate_threshold + 0.15) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": [0.5, 0.4], "scores": [0.0, 1.0]}, "probabilities fall"),
        ({"probabilities": [0.4, 0.5], "scores": [1.0, 1.0]}, "scores do not rise"),
        ({"probabilities": [0.4, 0.5, 0.6], "scores": [0.0, 1.0]}, "2 scores and 3"),
        ({"review_threshold": 0.9, "duplicate_threshold": 0.8}, "above duplicate"),
        ({"probabilities": [0.4, 1.5], "scores": [0.0, 1.0]}, "less than or equal to 1"),
    ],
)
def test_wrong_table_is_refused(content: dict[str, Any], change: dict[str, Any], message: str) -> None:
    """A table that falls, a score out of order, a review band upside down. Break: drop `_monotone`."""
    with pytest.raises(ValidationError, match=message):
        Calibration.model_validate({**content, **change})


def test_calibration_of_another_model_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    """Thresholds never outlive the weights they were fitted for. Break: drop the comparison in `load`."""
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))
    (folder / CALIBRATION).write_text(json.dumps({**content, "model_id": "copydetect-small-v1-000000000000"}))
    with pytest.raises(SettingError, match="is damaged"):
        Calibration.load(folder)
    refresh_manifest(folder)
    with pytest.raises(SettingError, match="was fitted for copydetect-small-v1-000000000000"):
        Calibration.load(folder)


@given(outcomes)
def test_isotonic_fit_rises_and_loses_nothing(pairs: list[tuple[float, bool]]) -> None:
    """Blocks rise strictly, and the table made of them too. Break: `>` in place of `>=`."""
    scores, right = np.array([p[0] for p in pairs], np.float32), np.array([p[1] for p in pairs])
    blocks = isotonic(scores, right)
    assert (np.diff([block.hits / block.outcomes for block in blocks]) > 0).all()
    assert all(before.high <= after.low for before, after in pairwise(blocks))
    assert sum(block.outcomes for block in blocks) == len(pairs)
    assert sum(block.hits for block in blocks) == right.sum()
    table_scores, probabilities = table(scores, right)
    assert (np.diff(table_scores) > 0).all()
    assert (np.diff(probabilities) >= 0).all()


def test_isotonic_fit_of_a_known_case() -> None:
    """Worked by hand: 0 | 1 0 pooled | 1. Break: pool nothing."""
    blocks = isotonic(np.array([0.5, 0.125, 0.375, 0.25], np.float32), np.array([True, False, False, True]))
    assert blocks == [(0.125, 0.125, 1, 0), (0.25, 0.375, 2, 1), (0.5, 0.5, 1, 1)]


def test_threshold_is_the_lowest_with_the_precision() -> None:
    """Of scores .9 to .5, right but for .6: 4 of 5 at .5, all at .7. Break: the highest such score."""
    scores, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.array([True, True, True, False, True])
    assert threshold(scores, right, 0.99) == pytest.approx(0.7, abs=1e-4)
    assert threshold(scores, right, 0.8) == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(ValueError, match="no score reaches"):
        threshold(scores, ~right, 0.99)


def test_duplicate_is_the_likelier_explanation() -> None:
    """The threshold does not lie where the table still says "rather not". Break: `>` in place of `>=`."""
    assert likelier_from([0.1, 0.2, 0.30001, 0.4], [0.0, 0.4, 0.5, 0.9]) == pytest.approx(0.3001)


def test_tuning_photos_are_listed() -> None:
    """Evaluation can leave out what was tuned on: 200 hashes, sorted, each once."""
    hashes = SPLIT.read_text().split()
    assert len(hashes) == TUNED_ON
    assert hashes == sorted(set(hashes))
    assert all(len(digest) == 64 for digest in hashes)
