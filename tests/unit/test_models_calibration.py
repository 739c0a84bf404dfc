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

from models.calibration import Calibration, Table
from models.edits import EDITS
from models.evaluation.answers import Answers
from models.fit.calibration import (
    Wanted,
    above_most,
    calibration_of,
    isotonic,
    likelier_from,
    review_from,
    table,
    threshold,
)
from models.manifest import BUILT_IN, CALIBRATION, read_manifest, refresh_manifest
from models.photos import TUNE, split
from stream.errors import SettingError

outcomes = st.lists(st.tuples(st.floats(-1, 1, width=32), st.booleans()), min_size=2, max_size=80)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((BUILT_IN / CALIBRATION).read_text())
    return loaded


def test_built_in_calibration_says_what_it_is() -> None:
    """It is for this model, with counts, figures and the command. Break: another model_id."""
    calibration = Calibration.load()
    assert calibration.model_id == read_manifest(BUILT_IN).model_id
    assert -1 < calibration.review_threshold < calibration.duplicate_threshold < 1
    assert calibration.measured["duplicate_precision"] >= 0.99
    assert calibration.confidence(calibration.duplicate_threshold) >= 0.5
    assert set(calibration.recall_per_edit) == set(EDITS)
    assert calibration.fitted_on["photos"] == len(split(TUNE))
    assert calibration.command.startswith("python -m models.fit calibration")
    assert 20 <= len(calibration.alone.scores) <= 50
    assert calibration.measured["review_share"] <= 0.01


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_confidence_is_a_rising_probability(one: float, other: float) -> None:
    """0 to 1 for any score, and never lower for a higher one. Break: reverse the probabilities."""
    calibration = Calibration.load()
    low, high = (calibration.confidence(score) for score in sorted((one, other)))
    assert 0 <= low <= high <= 1
    low_agreed, high_agreed = (calibration.confidence(score, agreed=True) for score in sorted((one, other)))
    assert 0 <= low_agreed <= high_agreed <= 1
    assert low <= low_agreed
    assert high <= high_agreed


@given(st.one_of(st.floats(-3, 3), st.sampled_from(Calibration.load().alone.scores)), st.booleans())
def test_one_confidence_is_what_it_is_among_many(score: float, agreed: bool) -> None:
    """Serving asks for one, fitting for many. Break: the slope of the next part."""
    calibration = Calibration.load()
    among = calibration.confidences(np.array([0.1, score]), np.array([not agreed, agreed]))
    assert calibration.confidence(score, agreed=agreed) == pytest.approx(among[1], abs=1e-12)


def test_the_confidence_of_no_number_is_none() -> None:
    """A verdict refuses it; the top of the table would be taken. Break: without its line in `Table.at`."""
    assert np.isnan(Calibration.load().confidence(float("nan")))


def test_confidence_tells_copies_from_others() -> None:
    """Far below the review threshold it is near 0, far above the duplicate threshold near 1."""
    calibration = Calibration.load()
    assert calibration.confidence(calibration.review_threshold - 0.25) < 0.05
    assert calibration.confidence(calibration.duplicate_threshold + 0.15) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alone": {"probabilities": [0.5, 0.4], "scores": [0.0, 1.0]}}, "probabilities fall"),
        ({"alone": {"probabilities": [0.4, 0.5], "scores": [1.0, 1.0]}}, "scores do not rise"),
        ({"agreed": {"probabilities": [0.4, 0.5, 0.6], "scores": [0.0, 1.0]}}, "2 scores and 3"),
        ({"review_threshold": 0.9, "duplicate_threshold": 0.8}, "above duplicate"),
        ({"agreed": {"probabilities": [0.4, 1.5], "scores": [0.0, 1.0]}}, "less than or equal to 1"),
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


def test_calibration_of_another_release_is_told_as_such(tmp_path: Path, content: dict[str, Any]) -> None:
    """Its thresholds are of other scores; the advice is to fit again. Break: accept format 2."""
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))
    (folder / CALIBRATION).write_text(json.dumps({**content, "format": 2}))
    refresh_manifest(folder)
    with pytest.raises(SettingError, match=r"of another release.*models\.fit calibration again"):
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
    if len(np.unique(scores.round(6))) > 1:
        of = table(scores, right)
        assert (np.diff(of.scores) > 0).all()
        assert (np.diff(of.probabilities) >= 0).all()


def test_isotonic_fit_of_a_known_case() -> None:
    """Worked by hand: 0 | 1 0 pooled | 1. Break: pool nothing."""
    blocks = isotonic(np.array([0.5, 0.125, 0.375, 0.25], np.float32), np.array([True, False, False, True]))
    assert blocks == [(0.125, 0.125, 1, 0), (0.25, 0.375, 2, 1), (0.5, 0.5, 1, 1)]


def test_threshold_is_the_lowest_with_the_precision() -> None:
    """Of scores .9 to .5, right but for .6: 4 of 5 at .5, all at .7. Break: the highest such score."""
    scores, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.array([True, True, True, False, True])
    assert threshold(scores, right, 0.99) == pytest.approx(0.7, abs=1e-4)
    assert threshold(scores, right, 0.8) == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(SettingError, match="no score reaches"):
        threshold(scores, ~right, 0.99)


def test_duplicate_is_the_likelier_explanation() -> None:
    """The threshold does not lie where the table still says "rather not". Break: `>` in place of `>=`."""
    assert likelier_from(Table(scores=[0.1, 0.2, 0.30001, 0.4], probabilities=[0.0, 0.4, 0.5, 0.9])) == pytest.approx(
        0.3001
    )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.sampled_from([0.0, 0.05, 0.2, 1.0]))
def test_review_takes_no_more_than_its_share(scores: list[int], share: float) -> None:
    """At most that share of all answers lies from it to the duplicate threshold, and no lower score would do, ties
    included. Break: count from the lowest score.
    """
    found = (np.array(scores) / 20).astype(np.float32)
    review = review_from(found, 0.7, share)
    assert review <= 0.7
    assert ((found >= review) & (found < 0.7)).sum() <= share * len(scores)
    lower = found[found < review - 1e-3]
    if len(lower):
        assert ((found >= lower.max()) & (found < 0.7)).sum() > share * len(scores)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.sampled_from([0.0, 0.05, 0.2]))
def test_few_of_what_looks_alike_are_duplicates(scores: list[int], share: float) -> None:
    """At most that share reaches it, ties included, and a step lower would let more. Break: forget the step."""
    found = (np.array(scores) / 20).astype(np.float32)
    limit = above_most(found, share)
    assert (found >= limit).sum() <= share * len(found)
    assert (found >= limit - 2e-4).sum() > share * len(found)


def test_hard_negatives_raise_the_threshold() -> None:
    """All answers are right above .3, yet a look-alike scores .5. Break: leave the hard negatives out."""
    shape = (len(EDITS), 20)
    with_score = np.linspace(0.31, 0.9, len(EDITS) * 20, dtype=np.float32).reshape(shape)
    without = np.linspace(0.0, 0.29, len(EDITS) * 20, dtype=np.float32).reshape(shape)
    places = np.arange(with_score.size).reshape(shape)
    answers = Answers(with_score, places, np.ones(shape, dtype=bool), without, places)
    agreed = np.zeros(2 * with_score.size, dtype=bool)
    hard = np.array([0.1] * 10 + [0.5], dtype=np.float32)
    made = [calibration_of(answers, agreed, those, Wanted(), "model", 5, "command") for those in (hard, hard[:0])]
    assert [made[0].duplicate_threshold, made[1].duplicate_threshold] == pytest.approx([0.5001, 0.31])
    assert made[0].measured["hard_duplicates"] == 0
    assert made[0].measured["hard_negatives"] == 11
    assert "11 hard negatives" in made[0].rule
    assert "hard" not in made[1].rule


def test_tables_tell_the_signals_apart() -> None:
    """Of the same scores those where the perceptual hash agrees are right, the others half: so say the confidences.

    Break: fit both tables on all answers.
    """
    random = np.random.default_rng(1)
    shape = (len(EDITS), 20)
    with_score = random.uniform(0.2, 0.6, shape).astype(np.float32)
    without = random.uniform(0.0, 0.4, shape).astype(np.float32)
    places = np.arange(with_score.size).reshape(shape)
    answers = Answers(with_score, places, places % 4 != 1, without, places)
    agreed = np.concatenate([places.ravel() % 2 == 0, np.zeros(places.size, dtype=bool)])
    made = calibration_of(answers, agreed, np.array([]), Wanted(precision=0.6), "model", 5, "command")
    assert made.confidence(0.5, agreed=True) > 0.99
    assert 0.3 < made.confidence(0.5) < 0.7
    assert made.fitted_on["distractors"] == 5
