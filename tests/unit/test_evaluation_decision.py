"""R12: the accuracy that is measured is that of the decision that serves."""

from __future__ import annotations

import numpy as np
import pytest

from models.background import Background
from models.evaluation.baselines import trusted_row
from models.evaluation.decision import Decision, Views, joined, pair_scores
from models.perceptual import Pdq
from schemas.events import Box, Evidence, Vector
from stream.decision import Item, View, judge
from stream.neighbours.protocol import Hit
from tests.support.made import RULE, at_similarity, hit, item, random_vector

ROWS, QUERIES = 40, 12
BOX = Box(left=0, top=0, right=0.5, bottom=1)


def background() -> Background:
    return Background(np.stack([random_vector(1_000 + n) for n in range(200)]), frozenset(), 20, 0.7)


def made(random: np.random.Generator, near: Vector) -> tuple[Vector, list[Pdq]]:
    """Vectors somewhere near to these, and hashes that differ from one another in few or many bits."""
    vectors = np.stack([at_similarity(v, float(random.uniform(0, 1)), seed=n) for n, v in enumerate(near)])
    hashes = [
        Pdq(np.packbits(random.random(256) < random.choice([0.02, 0.3])).tobytes().hex(), int(random.choice([30, 90])))
        for _ in near
    ]
    return vectors, hashes


def views(vectors: Vector, hashes: list[Pdq], owners: list[int]) -> Views:
    """The first view of each owner is its whole picture."""
    rows, of = np.stack([trusted_row(one) for one in hashes]), np.array(owners)
    first = np.diff(of, prepend=-1) > 0
    return Views(vectors[first], rows[first], vectors[~first], rows[~first], of[~first])


def test_matrices_say_what_the_decision_says() -> None:
    """Score of the best row, the row, and whether the hashes agree, for pictures with up to three panels.

    Break: another weight, or no cost of a panel, in either of the two.
    """
    random, ground = np.random.default_rng(5), background()
    rows = np.stack([random_vector(n) for n in range(ROWS)])
    row_bias = ground.bias(rows)
    _, row_hashes = made(random, rows)
    owners = sorted([*range(QUERIES), *random.integers(0, QUERIES, 20).tolist()])
    vectors, hashes = made(random, rows[random.integers(0, ROWS, len(owners))])
    bias = ground.bias(vectors)
    decision = Decision(ground, views(rows, row_hashes, list(range(ROWS))), nearest=None)
    queries = views(vectors, hashes, owners)
    scores = decision.scores(queries)
    agreed = decision.agreed(queries, scores.argmax(axis=1))
    for query in range(QUERIES):
        own = [n for n, owner in enumerate(owners) if owner == query]

        def candidates(view: int) -> list[Hit]:
            similarity = rows @ vectors[view]
            return [
                hit(
                    float(similarity[n]), name=f"r{n}", bias=float(row_bias[n]), offset=n, pdq=row_hashes[n].hash,
                    pdq_quality=row_hashes[n].quality,
                )
                for n in range(ROWS)
            ]  # fmt: skip

        panels = tuple(View(vectors[n], float(bias[n]), *hashes[n], BOX) for n in own[1:])
        asked: Item = item(
            query, embedding=vectors[own[0]], bias=float(bias[own[0]]), pdq=hashes[own[0]].hash,
            pdq_quality=hashes[own[0]].quality, panels=panels,
        )  # fmt: skip
        rule = RULE.__class__(RULE.duplicate_threshold, RULE.review_threshold, ROWS, RULE.calibration)
        verdict = judge(asked, candidates(own[0]), rule, [candidates(n) for n in own[1:]])
        assert verdict.score == pytest.approx(float(scores[query].max()), abs=1.1e-4)
        assert verdict.neighbours[0].upload_id == f"r{scores[query].argmax()}"
        if verdict.score is not None and verdict.score < RULE.duplicate_threshold:
            assert (Evidence.PERCEPTUAL in verdict.evidence) == bool(agreed[query])


def test_rows_that_are_not_among_the_nearest_are_no_candidates() -> None:
    """A hash finds nothing that the index does not offer. Break: leave the cut away."""
    random, ground = np.random.default_rng(6), background()
    rows = np.stack([random_vector(n) for n in range(ROWS)])
    _, hashes = made(random, rows)
    queries = views(rows[:5], hashes[:5], list(range(5)))
    scores = Decision(ground, views(rows, hashes, list(range(ROWS))), nearest=3).scores(queries)
    assert (np.isfinite(scores).sum(axis=1) == 3).all()
    assert (scores.argmax(axis=1) == np.arange(5)).all()
    without = Decision(ground, views(rows, hashes, list(range(ROWS))), nearest=3).scores(queries, own=False)
    assert (np.isfinite(without).sum(axis=1) == 3).all()
    assert np.isneginf(without[np.arange(5), np.arange(5)]).all()


def test_parts_keep_their_panels() -> None:
    """Joined and taken apart again. Break: keep the owners' old places."""
    random = np.random.default_rng(7)
    vectors, hashes = made(random, np.stack([random_vector(n) for n in range(6)]))
    one, other = views(vectors[:4], hashes[:4], [0, 1, 1, 1]), views(vectors[4:], hashes[4:], [0, 0])
    both = joined([one, other])
    assert both.owners.tolist() == [1, 1, 2]
    assert both.part([2, 1]).owners.tolist() == [1, 1, 0]
    assert np.array_equal(both.part([2, 1]).whole, both.whole[[2, 1]])


def test_the_later_of_a_pair_may_show_the_earlier() -> None:
    """And not the other way round, unless either may be the later. Break: take the first one's panels."""
    random, ground = np.random.default_rng(8), background()
    vectors, _ = made(random, np.stack([random_vector(n) for n in (1, 2, 3)]))
    vectors[2] = at_similarity(vectors[1], 0.9)
    pictures = Views(
        vectors[[1, 0]], np.stack([trusted_row(Pdq("0" * 64, 0))] * 2), vectors[[2]],
        np.stack([trusted_row(Pdq("0" * 64, 0))]), np.array([1]),
    )  # fmt: skip
    scores, _ = pair_scores(pictures, ground, [(0, 1), (1, 0)], either=True)
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] > 0.4
    later, _ = pair_scores(pictures, ground, [(0, 1), (1, 0)])
    assert later[0] == pytest.approx(scores[0])
    assert later[1] < 0.2
