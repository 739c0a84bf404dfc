"""The demo counts honestly: nothing found that is not a copy of what it matched, nothing lost that is not said.

Breaks that these tests catch, each tried: any duplicate verdict on a copy counted as found; `ALIKE` also where the
photographs are known to be distinct; `lost` always 0.
"""

from __future__ import annotations

import pytest

from ops.demo.tally import Assessor, Judged, Outcome, per_edit, percentile, totals
from ops.demo.uploads import Kind, Upload
from schemas.events import Verdict, VerdictKind
from tests.unit.demo_things import dead_letter, upload, verdict

CAT, DOG = upload("cat.png"), upload("dog.png")
CROPPED = upload("cat.png", Kind.EDITED, "crop_50")
TURNED = upload("cat.png", Kind.EDITED, "rotate_15")
IDENTICAL = upload("cat.png", Kind.IDENTICAL, "identical")
AGAIN = upload("cat.png", Kind.REPEAT)
OTHER_VIEW = upload("cat2.png", Kind.SECOND_VIEW, scene="cat.png")
ALL = (CAT, DOG, CROPPED, TURNED, IDENTICAL, AGAIN, OTHER_VIEW)
DUPLICATE, UNIQUE, REVIEW = VerdictKind.DUPLICATE, VerdictKind.UNIQUE, VerdictKind.REVIEW


def assessor(*, distinct: bool = True) -> Assessor:
    knows = Assessor(distinct=distinct)
    for one in ALL:
        knows.expect(one)
    return knows


def outcome(of: Upload, said: Verdict | None, knows: Assessor | None = None) -> Outcome:
    letter = dead_letter() if said is None else None
    return (knows or assessor()).assess(of, said, letter, 0.1).outcome


@pytest.mark.parametrize(
    ("of", "said", "expected"),
    [
        (CAT, verdict(CAT, UNIQUE), Outcome.NEW),
        (CAT, verdict(CAT, REVIEW, DOG), Outcome.REVIEW),
        (CAT, verdict(CAT, DUPLICATE, DOG), Outcome.FALSE),
        (CROPPED, verdict(CROPPED, DUPLICATE, CAT), Outcome.FOUND),
        (CROPPED, verdict(CROPPED, DUPLICATE, TURNED), Outcome.FOUND),
        (CROPPED, verdict(CROPPED, DUPLICATE, OTHER_VIEW), Outcome.FOUND),
        (CROPPED, verdict(CROPPED, DUPLICATE, DOG), Outcome.FALSE),
        (CROPPED, verdict(CROPPED, DUPLICATE, upload("who.png")), Outcome.FALSE),
        (CROPPED, verdict(CROPPED, REVIEW, CAT), Outcome.REVIEW),
        (CROPPED, verdict(CROPPED, UNIQUE), Outcome.MISSED),
        (IDENTICAL, verdict(IDENTICAL, DUPLICATE, CAT), Outcome.FOUND),
        (AGAIN, verdict(AGAIN, UNIQUE, repeat=True), Outcome.REPEATED),
        (AGAIN, verdict(AGAIN, DUPLICATE, CAT), Outcome.MISSED),
        (OTHER_VIEW, verdict(OTHER_VIEW, DUPLICATE, CAT), Outcome.SECOND_VIEW),
        (OTHER_VIEW, verdict(OTHER_VIEW, UNIQUE), Outcome.SECOND_VIEW),
        (CROPPED, None, Outcome.DEAD_LETTER),
    ],
)
def test_each_verdict_is_held_against_what_was_sent(of: Upload, said: Verdict | None, expected: Outcome) -> None:
    assert outcome(of, said) is expected


def test_twins_in_a_folder_of_ones_own_are_no_error_and_neither_are_their_copies() -> None:
    knows = assessor(distinct=False)
    assert outcome(CROPPED, verdict(CROPPED, DUPLICATE, DOG), knows) is Outcome.FALSE
    assert outcome(CAT, verdict(CAT, DUPLICATE, DOG), knows) is Outcome.ALIKE
    assert outcome(CROPPED, verdict(CROPPED, DUPLICATE, DOG), knows) is Outcome.FOUND


def test_totals_tell_photographs_copies_and_repeats_apart() -> None:
    knows = assessor()
    judged = [
        knows.assess(CAT, verdict(CAT, UNIQUE), None, 0.1),
        knows.assess(DOG, verdict(DOG, DUPLICATE, CAT), None, 0.2),
        knows.assess(CROPPED, verdict(CROPPED, DUPLICATE, CAT), None, 0.3),
        knows.assess(TURNED, verdict(TURNED, UNIQUE), None, 0.4),
        knows.assess(AGAIN, verdict(AGAIN, UNIQUE, repeat=True), None, 0.5),
        knows.assess(OTHER_VIEW, verdict(OTHER_VIEW, UNIQUE), None, 0.6),
    ]
    counted = totals(judged, sent=8, judging_s=3.0)
    assert (counted.lost, counted.images_per_s) == (2, 2.0)
    assert counted.photographs == {Outcome.NEW: 1, Outcome.FALSE: 1}
    assert counted.copies == {Outcome.FOUND: 1, Outcome.MISSED: 1}
    assert counted.repeats == {Outcome.REPEATED: 1}
    assert counted.count(Outcome.FALSE) == 1
    assert per_edit(judged) == {"crop_50": {Outcome.FOUND: 1}, "rotate_15": {Outcome.MISSED: 1}}


def test_no_answers_make_no_numbers() -> None:
    none: list[Judged] = []
    counted = totals(none, sent=3, judging_s=0.0)
    assert (counted.lost, counted.images_per_s, counted.latency_p99_s) == (3, 0.0, 0.0)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected
