"""The figures. Pure functions over scores and flags.

An *answer* is the best row of one query: its score, and whether that row is the query's original. A query without
an original has answers that are all wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]

BOOTSTRAPS = 1_000
BINS = 15


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def micro_ap(scores: Scores, right: Flags, positives: int) -> float:
    """Area under precision over recall, all answers of all queries in one ranking.

    `positives` counts the queries that have an original: one that is never found costs recall. Of equal scores the
    wrong ones come first, so that ties gain nothing. Source: Douze et al., "The 2021 Image Similarity Dataset and
    Challenge" (2021).
    """
    order = np.lexsort((right, -scores))
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(order) + 1)
    return float((precision * right[order]).sum() / positives)


def average_precision(places: Sequence[int], positives: int) -> float:
    """Area under precision over recall of one ranking, by trapezoids.

    Args:
        places: of what is right, from 0, ascending.

    Source: Jegou et al., "Hamming Embedding and Weak Geometric Consistency" (2008), the Holidays protocol.
    """
    area = 0.0
    for found, place in enumerate(places):
        before = found / place if place else 1.0
        area += (before + (found + 1) / (place + 1)) / (2 * positives)
    return area


def first_four(places: Sequence[int], _positives: int) -> float:
    """How many of what is right are among the first four. Source: Nister and Stewenius, "Scalable Recognition with a
    Vocabulary Tree" (2006).
    """
    return float(sum(place < 4 for place in places))  # noqa: PLR2004 - the protocol's four


def recall_at(scores: Scores, right: Flags, positives: int, precision: float) -> tuple[float, float]:
    """The highest recall at which this precision holds, and the score from which on; (0, inf) if at none."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(right[order])
    # A threshold cannot part equal scores.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    enough = ends[hits[ends] / (ends + 1) >= precision]
    if not len(enough):
        return 0.0, math.inf
    return float(hits[enough[-1]] / positives), float(ranked[enough[-1]])


def f1(scores: Scores, right: Flags, positives: int, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of the answers at or above a threshold."""
    found = scores >= threshold
    hits = int((found & right).sum())
    precision = hits / max(1, int(found.sum()))
    recall = hits / positives
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


class Bin(NamedTuple):
    """Answers of similar confidence: how many, their mean confidence, the share that is right."""

    answers: int
    confidence: float
    right: float


def reliability(confidence: Scores, right: Flags, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over [0, 1]; empty ones are left out."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (places == place for place in range(bins))
        if inside.any()
    ]


def calibration_error(confidence: Scores, right: Flags, bins: int = BINS) -> float:
    """Expected calibration error: |confidence - share that is right|, weighted by the answers of each bin.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017).
    """
    return sum(b.answers * abs(b.confidence - b.right) for b in reliability(confidence, right, bins)) / len(right)


def bootstrap(
    figures: Callable[[NDArray[np.intp]], Sequence[float]], groups: int, seed: int, rounds: int = BOOTSTRAPS
) -> list[Interval]:
    """95 % intervals of figures, drawing whole groups with repetition.

    Args:
        figures: takes the groups that were drawn. A group is a photo with all its edits, which are not independent.
    """
    random = np.random.default_rng(seed)
    drawn = np.array([figures(random.integers(0, groups, groups)) for _ in range(rounds)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    values = figures(np.arange(groups))
    return [Interval(*map(float, of_one)) for of_one in zip(values, low, high, strict=True)]


class McNemar(NamedTuple):
    """How many queries only one of two methods answers rightly, and how likely that is by chance."""

    only_ours: int
    only_theirs: int
    p_value: float


def mcnemar(ours: Flags, theirs: Flags) -> McNemar:
    """The exact two-sided test on paired answers. Source: McNemar, Psychometrika 12 (1947)."""
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    count, fewer = only_ours + only_theirs, min(only_ours, only_theirs)
    if not count:
        return McNemar(0, 0, 1.0)
    logs = [
        math.lgamma(count + 1) - math.lgamma(n + 1) - math.lgamma(count - n + 1) - count * math.log(2)
        for n in range(fewer + 1)
    ]
    most = max(logs)
    tail = math.exp(most) * math.fsum(math.exp(value - most) for value in logs)
    return McNemar(only_ours, only_theirs, min(1.0, 2 * tail))


def curve(scores: Scores, right: Flags, positives: int, points: int = 200) -> list[tuple[float, float]]:
    """(recall, precision) from the highest score down, thinned."""
    order = np.lexsort((right, -scores))
    hits = np.cumsum(right[order])
    recall, precision = hits / positives, hits / np.arange(1, len(order) + 1)
    kept = np.unique(np.linspace(0, len(order) - 1, points).astype(int))
    return [(float(recall[place]), float(precision[place])) for place in kept]
