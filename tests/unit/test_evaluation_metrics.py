"""R12: the figures are what their definitions say, worked by hand or held against a plain twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.metrics import (
    bootstrap,
    calibration_error,
    f1,
    mcnemar,
    micro_ap,
    recall_at,
    reliability,
)

answers = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p[0] / 8 for p in pairs], np.float32), np.array([p[1] for p in pairs])


def test_micro_ap_by_hand() -> None:
    """Right, wrong, right, and one original never found: (1 + 2/3) / 3. Break: divide by the hits."""
    scores, right = np.array([0.9, 0.8, 0.7], np.float32), np.array([True, False, True])
    assert micro_ap(scores, right, 3) == pytest.approx((1 + 2 / 3) / 3)


def test_ties_gain_nothing() -> None:
    """Of equal scores the wrong one comes first. Break: sort by score alone."""
    scores = np.array([0.5, 0.5], np.float32)
    assert micro_ap(scores, np.array([True, False]), 1) == pytest.approx(0.5)
    assert micro_ap(scores, np.array([False, True]), 1) == pytest.approx(0.5)


@given(answers, st.sampled_from([0.5, 0.9, 0.99]))
def test_recall_at_a_precision_is_the_best_over_all_thresholds(pairs: list[tuple[int, bool]], precision: float) -> None:
    """The plain twin tries every score as threshold. Break: look between equal scores."""
    scores, right = arrays(pairs)
    recalls = [0.0]
    for threshold in set(scores.tolist()):
        found = scores >= threshold
        if right[found].mean() >= precision:
            recalls.append(right[found].sum() / len(pairs))
    recall, threshold = recall_at(scores, right, len(pairs), precision)
    assert recall == pytest.approx(max(recalls))
    if recall:
        assert right[scores >= threshold].mean() >= precision
    else:
        assert max(recalls) == 0


def test_f1_by_hand() -> None:
    """Three found, two of them right, four to find."""
    scores, right = np.array([0.9, 0.8, 0.7, 0.1], np.float32), np.array([True, True, False, True])
    assert f1(scores, right, 4, 0.5) == pytest.approx((2 / 3, 1 / 2, 4 / 7))


def test_calibration_error_by_hand() -> None:
    """Two bins: .1 said and 0 right, .9 said and half right: (2 * .1 + 2 * .4) / 4. Break: average the bins."""
    confidence = np.array([0.1, 0.1, 0.9, 0.9], np.float32)
    right = np.array([False, False, True, False])
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0.25)
    assert [b.answers for b in reliability(np.array([0.0, 1.0], np.float32), right[:2], bins=15)] == [1, 1]


def test_bootstrap_draws_groups_whole() -> None:
    """The mean of 400 coin flips has an interval of about .05 either way. Break: draw without repetition."""
    flips = np.random.default_rng(1).integers(0, 2, 400)
    (interval,) = bootstrap(lambda drawn: [float(flips[drawn].mean())], 400, seed=3)
    assert interval.value == pytest.approx(flips.mean())
    assert 0.03 < interval.value - interval.low < 0.07
    assert 0.03 < interval.high - interval.value < 0.07


def test_mcnemar_is_the_binomial_test() -> None:
    """8 against 1: 2 * (1 + 9) / 2^9. Nothing to tell apart: 1. Break: one-sided."""
    ours = np.array([True] * 8 + [False] + [True] * 20)
    theirs = np.array([False] * 8 + [True] + [True] * 20)
    only_ours, only_theirs, p_value = mcnemar(ours, theirs)
    assert (only_ours, only_theirs) == (8, 1)
    assert p_value == pytest.approx(2 * 10 / 2**9)
    assert mcnemar(ours, ours).p_value == 1
    many = mcnemar(np.ones(9_000, bool), np.zeros(9_000, bool))
    assert 0 <= many.p_value < 1e-300 or math.isclose(many.p_value, 0)
