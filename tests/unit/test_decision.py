"""A verdict is a function of the item, the candidates and the thresholds, and of nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.panels import COST
from models.perceptual import FARTHEST, WEIGHT
from schemas.events import Box, Evidence, VerdictKind
from stream.decision import Item, View, judge
from stream.neighbours.protocol import Hit
from stream.neighbours.rows import best_hits
from tests.support.made import DUPLICATE, REVIEW, RULE, hit, item, random_vector

similarities = st.floats(-1, 1, allow_nan=False)
biases = st.floats(0, 0.6, allow_nan=False)
candidates = st.lists(
    st.builds(
        # One row has one bias, wherever it is known from.
        lambda similarity, offset, name: hit(similarity, bias=ord(name) % 7 / 10, offset=offset, name=name),
        similarities,
        st.integers(0, 10**6),
        st.sampled_from("abcdefgh"),
    ),
    max_size=12,
)


def exact(made: Item, **changes: object) -> Hit:
    return hit(0.3, row_id=made.row_id, sha256=made.sha256, **changes)  # type: ignore[arg-type]


def test_no_candidate_is_unique_without_a_score() -> None:
    """Nothing near means unique, and no number is made up for it. Break: default the score to 0."""
    verdict = judge(item(), [], RULE)
    assert (verdict.verdict, verdict.score, verdict.margin, verdict.match) == (VerdictKind.UNIQUE, None, None, None)
    assert verdict.confidence == 0


@pytest.mark.parametrize(
    ("similarity", "kind"),
    [
        (DUPLICATE, VerdictKind.DUPLICATE),
        (DUPLICATE - 0.0001, VerdictKind.REVIEW),
        (REVIEW, VerdictKind.REVIEW),
        (REVIEW - 0.0001, VerdictKind.UNIQUE),
        (1.0, VerdictKind.DUPLICATE),
    ],
)
def test_thresholds_belong_to_the_upper_verdict(similarity: float, kind: VerdictKind) -> None:
    """At or above a threshold counts. Break: `>` for `>=` in `_kind`."""
    assert judge(item(), [hit(similarity)], RULE).verdict is kind


def test_score_takes_half_of_both_biases_away() -> None:
    """score = similarity - (bias(x) + bias(row)) / 2. Break: leave one bias out of `_scored`."""
    verdict = judge(item(bias=0.2), [hit(0.9, bias=0.1)], RULE)
    assert verdict.score == pytest.approx(0.75)
    assert verdict.similarity == pytest.approx(0.9)
    assert verdict.margin == pytest.approx(-0.05)
    assert verdict.verdict is VerdictKind.REVIEW


def test_the_same_bytes_are_a_duplicate_whatever_the_search_says() -> None:
    """R2: an exact copy has score and confidence 1. Break: drop `best.exact` from `_kind`."""
    made = item(bias=0.9)
    verdict = judge(made, [exact(made), hit(0.99, name="other")], RULE)
    assert verdict.verdict is VerdictKind.DUPLICATE
    assert (verdict.score, verdict.confidence) == (1.0, 1.0)
    assert Evidence.EXACT in verdict.evidence
    strict = replace(RULE, duplicate_threshold=1.5)
    assert judge(made, [exact(made)], strict).verdict is VerdictKind.DUPLICATE


def test_ties_go_to_the_earlier_row() -> None:
    """Two equal matches: the older one. Break: the row id before the ledger offset in `_scored`."""
    late, early = hit(0.9, name="late", offset=9), hit(0.9, name="early", offset=3)
    for order in ([late, early], [early, late]):
        match = judge(item(), order, RULE).match
        assert match is not None
        assert match.upload_id == "early"


def test_ties_at_the_cut_go_to_the_earlier_rows() -> None:
    """Rows that tie with the last one are compared before it is cut. Break: `<=` for `<` in `best_hits`."""
    equals = [hit(0.5, name=f"{n:02}", offset=n) for n in reversed(range(RULE.neighbours_max + 5))]
    neighbours = judge(item(), [hit(0.9, name="best"), *equals], RULE).neighbours
    assert [one.upload_id for one in neighbours] == ["best", *(f"{n:02}" for n in range(RULE.neighbours_max - 1))]


def test_a_row_that_came_twice_counts_from_the_first_time() -> None:
    """Break: keep the later ledger offset in `best_hits`."""
    twice = [hit(0.9, name="twice", offset=9), hit(0.9, name="twice", offset=3)]
    for rows in (twice, twice[::-1]):
        match = judge(item(), [*rows, hit(0.9, name="once", offset=5)], RULE).match
        assert match is not None
        assert match.upload_id == "twice"


def test_the_own_row_counts_from_the_first_time() -> None:
    """Two owners can both have judged the same bytes (at_least_once). Break: similarity 1 behind `best_hits`."""
    made = item()
    rows = [exact(made, name="late", offset=9)._replace(similarity=0.9), exact(made, name="early", offset=3)]
    for order in (rows, rows[::-1]):
        match = judge(made, order, RULE).match
        assert match is not None
        assert match.upload_id == "early"


def test_a_candidate_of_another_tenant_is_refused() -> None:
    """R11: nothing is said about another tenant's picture. Break: drop the check in `_candidates`."""
    with pytest.raises(ValueError, match="tenant"):
        judge(item(), [hit(0.99, tenant="other")], RULE)


def test_perceptual_evidence_needs_two_detailed_pictures() -> None:
    """PDQ speaks only where both pictures have detail enough. Break: drop QUALITY_MIN."""
    made = item(pdq="0" * 64, pdq_quality=100)
    near = hit(0.5, pdq="0" * 63 + "1", pdq_quality=100)
    assert judge(made, [near], RULE).evidence == [Evidence.PERCEPTUAL]
    assert judge(made, [near], RULE).confidence > 0.9
    flat = hit(0.5, pdq="0" * 63 + "1", pdq_quality=10)
    assert judge(made, [flat], RULE).evidence == []
    far = hit(0.1, pdq="0" * 55 + "f" * 9, pdq_quality=100)
    assert judge(made, [far], RULE).evidence == []


@given(candidates, st.randoms(use_true_random=False))
def test_order_and_repetition_of_candidates_do_not_matter(hits: list, rng: random.Random) -> None:  # type: ignore[type-arg]
    """The window and the index may both know a row, in any order. Break: take the last hit of a row in `best_hits`."""
    made = item()
    shuffled = hits * 2
    rng.shuffle(shuffled)
    assert judge(made, shuffled, RULE) == judge(made, hits, RULE)


@given(candidates, similarities, biases)
def test_one_more_candidate_never_lowers_the_verdict(hits: list, similarity: float, bias: float) -> None:  # type: ignore[type-arg]
    """More knowledge can only find a better match. Break: rank by similarity instead of score."""
    made = item()
    before = judge(made, hits, RULE)
    after = judge(made, [*hits, hit(similarity, name="new", bias=bias)], RULE)
    assert after.score is not None
    assert before.score is None or after.score >= before.score


@given(similarities, biases, biases)
def test_verdict_score_and_margin_agree(similarity: float, bias: float, row_bias: float) -> None:
    """Kind, score and margin say the same. Break: compute the margin from the similarity."""
    verdict = judge(item(bias=bias), [hit(similarity, bias=row_bias)], RULE)
    assert verdict.score == pytest.approx(similarity - (bias + row_bias) / 2, abs=5.1e-5)
    assert verdict.score is not None
    assert verdict.margin is not None
    assert verdict.margin == pytest.approx(verdict.score - DUPLICATE)
    assert (verdict.verdict is VerdictKind.DUPLICATE) == (verdict.score >= DUPLICATE)
    assert (verdict.verdict is VerdictKind.UNIQUE) == (verdict.score < REVIEW)
    assert (verdict.match is None) == (verdict.verdict is VerdictKind.UNIQUE)


@given(st.lists(st.tuples(similarities, biases, st.booleans()), min_size=1, max_size=40))
def test_it_does_not_matter_which_rows_the_window_still_holds(rows: list[tuple[float, float, bool]]) -> None:
    """R2: some rows are in the window, the others in the index, and both show their ten most similar: after a crash
    the border between them lies elsewhere, and the verdict is the same. A far row of low bias may score highest.

    Break: rank all candidates by score, in `_rank`, or show the window's rows of highest score.
    """
    made = [hit(s, bias=b, offset=n, name=f"row-{n}") for n, (s, b, _) in enumerate(rows)]
    window = best_hits([h for h, row in zip(made, rows, strict=True) if row[2]], RULE.neighbours_max)
    index = best_hits([h for h, row in zip(made, rows, strict=True) if not row[2]], RULE.neighbours_max)
    assert judge(item(bias=0.2), [*index, *window], RULE) == judge(item(bias=0.2), made, RULE)


def test_near_perceptual_hashes_add_to_the_score() -> None:
    """From none at the farthest to the whole weight at equal hashes, where both pictures have detail.

    Break: add it whatever the quality.
    """
    made = item(pdq="0" * 64, pdq_quality=100)
    for bits, quality, added in ((0, 100, WEIGHT), (FARTHEST // 2 // 4 * 4, 100, None), (100, 100, 0.0), (0, 49, 0.0)):
        other = hit(0.1, pdq="0" * (64 - bits // 4) + "f" * (bits // 4), pdq_quality=quality)
        score = judge(made, [other], RULE).score
        assert score == pytest.approx(0.1 + (WEIGHT * (1 - bits / FARTHEST) if added is None else added), abs=5.1e-5)


def test_what_decided_names_itself() -> None:
    """A duplicate that only the hash makes one says so, also where the hashes are not near enough to speak alone.

    Break: leave the second half of the condition in `_evidence` away.
    """
    made = item(pdq="0" * 64, pdq_quality=100)
    by_hash = hit(DUPLICATE - 0.1, pdq="0" * 52 + "f" * 12, pdq_quality=100)
    verdict = judge(made, [by_hash], RULE)
    assert (verdict.verdict, verdict.evidence) == (VerdictKind.DUPLICATE, [Evidence.PERCEPTUAL])
    assert judge(made, [hit(DUPLICATE)], RULE).evidence == [Evidence.EMBEDDING]


QUARTER = Box(left=0.5, top=0.5, right=1.0, bottom=1.0)


def with_panel(seed: int = 0, **changes: object) -> Item:
    return item(seed, panels=(View(random_vector(seed + 1), 0.0, "0" * 64, 0, QUARTER),), **changes)


def test_a_copy_in_a_panel_is_found_and_named() -> None:
    """A collage is a duplicate of what it shows, and the match says where. Break: rank the whole picture's hits alone.

    A panel's score is lower than the whole's would be.
    """
    verdict = judge(with_panel(), [hit(0.1, name="other")], RULE, [[hit(0.95, name="shown")]])
    assert verdict.verdict is VerdictKind.DUPLICATE
    assert verdict.match is not None
    assert (verdict.match.upload_id, verdict.match.panel) == ("shown", QUARTER)
    assert verdict.score == pytest.approx(0.95 - COST)
    assert [one.panel for one in verdict.neighbours] == [QUARTER, None]


def test_a_row_near_the_whole_and_a_panel_counts_once_at_its_best() -> None:
    """Break: list it twice."""
    for of_whole, of_panel, panel in ((0.9, 0.92, None), (0.9, 0.99, QUARTER)):
        verdict = judge(with_panel(), [hit(of_whole)], RULE, [[hit(of_panel)]])
        assert [one.panel for one in verdict.neighbours] == [panel]


def test_the_same_bytes_are_exact_whatever_its_panels_say() -> None:
    """A collage sent again is its own copy. Break: let a panel's hit of the own row in."""
    made = with_panel()
    verdict = judge(made, [exact(made)], RULE, [[exact(made), hit(1.0, name="shown", bias=-0.5)]])
    assert verdict.evidence[0] is Evidence.EXACT
    assert (verdict.confidence, verdict.score) == (1.0, 1.0)


def test_who_holds_the_own_row_does_not_matter_to_a_panel() -> None:
    """The index counts it among a panel's ten, the window adds it: the neighbours are the same.

    Break: rank the panels of an exact copy, too.
    """
    made = with_panel()
    others = [hit(0.9 - n / 100, name=f"o{n}", bias=-n / 10) for n in range(10)]
    in_index = judge(made, [exact(made)], RULE, [[exact(made), *others[:9]]])
    in_window = judge(made, [exact(made)], RULE, [[*others, exact(made)]])
    assert in_index == in_window


def test_hashes_agree_whichever_view_scores_best() -> None:
    """A near hash of the whole counts where a panel's score is higher. Break: keep the best view's alone."""
    made = item(
        pdq="0" * 64, pdq_quality=100, panels=(View(random_vector(1), 0.0, "0" * 49 + "f" * 15, 100, QUARTER),)
    )  # fmt: skip
    shown = {"pdq": "0" * 64, "pdq_quality": 100, "name": "shown"}
    verdict = judge(made, [hit(-0.2, **shown)], RULE, [[hit(0.55, **shown)]])  # type: ignore[arg-type]
    assert verdict.match is not None
    assert verdict.match.panel == QUARTER
    assert Evidence.PERCEPTUAL in verdict.evidence


def test_candidates_of_every_view_are_needed() -> None:
    """Nothing is left out in silence. Break: `strict=False` in `_rank`."""
    with pytest.raises(ValueError, match="zip"):
        judge(with_panel(), [hit(0.5)], RULE)
    with pytest.raises(ValueError, match="tenant"):
        judge(with_panel(), [], RULE, [[hit(0.99, tenant="other")]])
