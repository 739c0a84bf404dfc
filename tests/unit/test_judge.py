"""A batch is judged in log order: twins, repeats and conflicts inside it are seen."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import (
    Fingerprint,
    FingerprintFailure,
    LedgerEntry,
    Reason,
    SourcePosition,
    VerdictKind,
)
from stream.judge import Judge, Knowledge, Outcome, Work
from stream.ledger import remember
from stream.memory import Memory
from stream.neighbours.protocol import Found
from stream.tenants import row_id
from stream.window import Window
from tests.support.made import at_similarity, fingerprint, hit, panel, random_vector, rule_of, work


def judge() -> Judge:
    return Judge(Window(10_000), Memory(10_000), rule_of)


def commit(judge: Judge, outcomes: Sequence[Outcome], first: int = 0) -> int:
    """What step 7 does; returns the next ledger offset."""
    for outcome in outcomes:
        if outcome.entry is not None:
            remember(outcome.entry, first, judge.window, judge.memory)
            first += 1
    return first


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [_kind(outcome.entry) for outcome in outcomes]


def _kind(entry: LedgerEntry | None) -> str:
    if entry is None:
        return "dropped"
    if entry.dead_letter is not None:
        return str(entry.dead_letter.reason)
    assert entry.verdict is not None
    return ("repeat of " if entry.verdict.repeat else "") + str(entry.verdict.verdict)


def test_simultaneous_copies_in_one_batch_give_one_representative() -> None:
    """R3: of 200 copies in one batch the first is unique, the rest are its duplicates. Break: drop `twins.near`."""
    vector = random_vector(1)
    works = [work(fingerprint(n, at_similarity(vector, 0.99, seed=n))) for n in range(200)]
    outcomes = judge().judge(works, Knowledge())
    assert kinds(outcomes) == ["unique"] + ["duplicate"] * 199
    assert {o.entry.verdict.match.upload_id for o in outcomes[1:]} == {"u0"}  # type: ignore[union-attr]


def test_identical_bytes_in_one_batch_are_exact() -> None:
    """R2: the same bytes under two ids are an exact copy. Break: drop the row id from `_Twins.near`'s order."""
    vector = random_vector(1)
    near = [fingerprint(n, at_similarity(vector, 0.7 + n / 1000, seed=n)) for n in range(1, 20)]
    same = [fingerprint(100, vector, content="same"), fingerprint(101, vector, content="same", bias=0.9)]
    outcomes = judge().judge([work(r) for r in [same[0], *near, same[1]]], Knowledge())
    last = outcomes[-1].entry
    assert last is not None
    assert last.verdict is not None
    assert (last.verdict.verdict, last.verdict.confidence) == (VerdictKind.DUPLICATE, 1.0)


def test_tenants_never_meet_in_a_batch() -> None:
    """R11: the same picture of two tenants is unique twice. Break: key `_twins` by nothing."""
    works = [work(fingerprint(n, random_vector(1), tenant=f"t{n}", content="same")) for n in range(5)]
    assert kinds(judge().judge(works, Knowledge())) == ["unique"] * 5


def test_an_encoders_repeat_is_dropped_whatever_it_contains() -> None:
    """R2: one source position is judged once, in the batch and after it. Break: drop `_sources`, or `knows_source`."""
    made = judge()
    again = [work(fingerprint(7, random_vector(n), content=n), offset=n) for n in range(3)]
    outcomes = made.judge(again, Knowledge())
    assert kinds(outcomes) == ["unique", "dropped", "dropped"]
    commit(made, outcomes)
    assert kinds(made.judge([work(fingerprint(7, random_vector(9)), offset=50)], Knowledge())) == ["dropped"]


def test_a_senders_repeat_gets_the_verdict_it_had() -> None:
    """R2: same id and bytes again: the first verdict, marked. From the batch, the ledger and the index alike.

    Break: drop `_known` from `decide` (a repeat of a unique picture would be its own duplicate).
    """
    vector = random_vector(1)
    first = fingerprint(0, vector, upload_id="a", content="a")
    again = [fingerprint(n, vector, upload_id="a", content="a") for n in (1, 2, 3)]
    made = judge()
    outcomes = made.judge([work(first), work(again[0])], Knowledge())
    assert kinds(outcomes) == ["unique", "repeat of unique"]
    commit(made, outcomes)

    repeated = work(again[1])
    place = made.repeated_entry(repeated)
    assert place == 1
    assert not made.needs_search(repeated)
    entry = outcomes[1].entry
    assert entry is not None
    assert kinds(made.judge([repeated], Knowledge(entries={(0, place): entry}))) == ["repeat of unique"]

    forgotten, entry = judge(), outcomes[0].entry
    assert entry is not None
    row = Found(hit(1.0, row_id=row_id("t", first.sha256), upload_id="a", sha256=first.sha256), entry.model_dump_json())
    assert kinds(forgotten.judge([work(again[2])], Knowledge(rows={row.hit.row_id: row}))) == ["repeat of unique"]


def test_one_id_for_other_bytes_is_a_conflict() -> None:
    """An id stands for one picture. In the batch and from memory. Break: compare nothing in `_known`."""
    made = judge()
    a, b = fingerprint(0, random_vector(1), upload_id="a"), fingerprint(1, random_vector(2), upload_id="a")
    outcomes = made.judge([work(a), work(b)], Knowledge())
    assert kinds(outcomes) == ["unique", "id_conflict"]
    commit(made, outcomes)
    later = work(fingerprint(2, random_vector(3), upload_id="a"))
    assert made.repeated_entry(later) is None
    assert kinds(made.judge([later], Knowledge())) == ["id_conflict"]


def test_a_dead_lettered_id_is_judged_when_it_comes_again() -> None:
    """R5: a replay is a new record and is judged. Break: remember dead letters' ids in `Memory.add`."""
    source = SourcePosition(topic_id="uploads-1", partition=0, offset=0)
    failure = FingerprintFailure(
        source=source,
        source_topic="u",
        upload_timestamp_ms=0,
        tenant="t",
        upload_id="a",
        reason=Reason.BAD_IMAGE,
        detail="x",
    )
    made = judge()
    outcomes = made.judge([Work(0, 0, failure)], Knowledge())
    assert kinds(outcomes) == ["bad_image"]
    letter = outcomes[0].entry.dead_letter  # type: ignore[union-attr]
    assert letter is not None
    assert letter.replay == "dejaview replay u 0 0"
    commit(made, outcomes)
    replayed = work(fingerprint(1, random_vector(1), upload_id="a"))
    assert kinds(made.judge([replayed], Knowledge())) == ["unique"]


pictures = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([1.0, 0.97, 0.9, 0.75, 0.7]), st.sampled_from("ab")), max_size=30
)


def test_a_collage_is_a_copy_of_what_it_shows() -> None:
    """In the same batch, in the window, in the index; it is the second panel. Break: search for the whole alone."""
    collage = fingerprint(9, random_vector(9), panels=[panel(5), panel(1)])
    shown = fingerprint(1, random_vector(1))
    in_batch = judge().judge([work(shown), work(collage)], Knowledge())
    in_window = judge()
    commit(in_window, in_window.judge([work(shown)], Knowledge()))
    row = hit(1.0, name="u1", row_id=row_id("t", shown.sha256))
    in_index = judge().judge([work(collage)], Knowledge(hits={(0, 9): [[], [], [row]]}))
    for outcomes in (in_batch, in_window.judge([work(collage)], Knowledge()), in_index):
        entry = outcomes[-1].entry
        assert entry is not None
        assert entry.verdict is not None
        assert entry.verdict.match is not None
        assert (entry.verdict.verdict, entry.verdict.match.upload_id) == (VerdictKind.DUPLICATE, "u1")


@settings(deadline=None)
@given(pictures, st.lists(st.integers(1, 10), min_size=30, max_size=30))
def test_how_the_log_is_cut_into_batches_does_not_matter(made: list[tuple[int, float, str]], sizes: list[int]) -> None:
    """R2: the same log gives the same verdicts in batches of any size. Break: skip the window in `_new`."""
    records: list[Fingerprint] = [
        fingerprint(
            n,
            at_similarity(random_vector(base), similarity, seed=n),
            tenant=tenant,
            panels=[panel(shown) for shown in (*range(100, 100 + n % 3), base + n % 2)],
        )
        for n, (base, similarity, tenant) in enumerate(made)
    ]
    one_by_one, batched = judge(), judge()
    expected: list[Outcome] = []
    offset = 0
    for record in records:
        outcomes = one_by_one.judge([work(record)], Knowledge())
        offset = commit(one_by_one, outcomes, offset)
        expected += outcomes
    got: list[Outcome] = []
    offset = 0
    left = list(records)
    for size in sizes:
        outcomes = batched.judge([work(r) for r in left[:size]], Knowledge())
        offset = commit(batched, outcomes, offset)
        got += outcomes
        left = left[size:]
    assert kinds(got) == kinds(expected[: len(got)])
    for a, b in zip(got, expected, strict=False):
        assert a.entry is not None
        assert b.entry is not None
        assert a.entry.verdict is not None
        assert b.entry.verdict is not None
        assert _same_match(a, b)


def _same_match(a: Outcome, b: Outcome) -> bool:
    one, other = a.entry.verdict.match, b.entry.verdict.match  # type: ignore[union-attr]
    if one is None or other is None:
        return one is other
    return one.upload_id == other.upload_id and abs(one.score - other.score) <= 1.01e-4
