"""`dejaview reindex`: a copy is held against the ledger, row by row and by the answers of an exact search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import ops.reindex.build
import ops.reindex.compare
from ops.cli.reindex import target
from ops.reindex.build import CAUGHT_UP_S, Builder, Reach, lacks, reach
from ops.reindex.compare import Asked, Standing, _note, compare, refusal
from ops.reindex.truth import Question, Sample, answer
from schemas.events import VerdictKind
from stream.config import Settings
from stream.errors import BrokerUnavailable
from stream.kafka import Record
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import STRONG, Hit, Index, Link, Row
from stream.tenants import row_id
from tests.support.made import RULE, at_similarity, hit, random_vector, rule_of, sha

ENDS = {0: 1_000}


def row(n: int, tenant: str = "t") -> Row:
    """Rows of a few families, so that each has neighbours near and far."""
    vector = at_similarity(random_vector(n % 7), 0.99 - 0.02 * (n % 20), seed=n)
    return Row(
        row_id(tenant, sha(n)), tenant, f"u{n}", sha(n), "0" * 64, 0, 0.0, VerdictKind.UNIQUE, 0, n, "{}", vector
    )  # fmt: skip


ROWS = [row(n, f"t{n % 2}") for n in range(120)]


@pytest.fixture
def _ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_pieces(_settings: Settings, ends: Mapping[int, int]) -> Iterator[list[Row]]:
        below = [one for one in ROWS if one.ledger_offset < ends[0]]
        for start in range(0, len(below), 50):
            yield below[start : start + 50]

    monkeypatch.setattr(ops.reindex.compare, "ledger_rows", in_pieces)


def filled(rows: list[Row]) -> MemoryIndex:
    index = MemoryIndex()
    index.insert(rows)
    return index


def standing_of(index: MemoryIndex, ends: Mapping[int, int] = ENDS, questions: int = 60) -> Standing:
    found = Standing("copy")
    compare(Settings(), rule_of, [Asked(found, index)], ends, questions)
    return found


@pytest.mark.usefixtures("_ledger")
def test_a_whole_index_agrees_with_exact_search() -> None:
    """Break: leave the question's own row among its neighbours on one side."""
    found = standing_of(filled(ROWS))
    assert (found.rows, found.missing, found.questions, found.same) == (120, 0, 60, 60)
    assert found.nearest == found.found == 60 * 9
    assert refusal(found, None, 1.0) is None


@pytest.mark.usefixtures("_ledger")
def test_one_missing_row_refuses_the_switch() -> None:
    """Break: count the rows that are there instead of looking each up (a repeated row makes up for the missing one)."""
    found = standing_of(filled([*ROWS[:77], *ROWS[78:], ROWS[0]]))
    assert (found.missing, found.examples) == (1, ["0:77"])
    why = refusal(found, None, 0.0)
    assert why is not None
    assert "0:77" in why


@pytest.mark.usefixtures("_ledger")
def test_rows_after_the_comparison_are_no_difference() -> None:
    """Uploads go on meanwhile: the index in use may hold more. Break: do not leave out later hits."""
    found = standing_of(filled(ROWS), {0: 100})
    assert (found.rows, found.missing, found.same) == (100, 0, 60)


class Forgetful(MemoryIndex):
    """Misses the nearest rows of a search: an approximate index that is set too coarse."""

    def search(self, tenant: str, vectors: np.ndarray, guarantee: int | None) -> list[list[Hit]]:
        return [hits[:1] + hits[4:] for hits in super().search(tenant, vectors, guarantee)]


@pytest.mark.usefixtures("_ledger")
def test_an_index_that_answers_worse_is_refused_unless_the_one_in_use_is_no_better() -> None:
    """Break, tried: measure by the index in use though it lacks rows."""
    coarse = Forgetful()
    coarse.insert(ROWS)
    found = standing_of(coarse)
    assert found.missing == 0
    assert found.recall < 0.8
    assert found.agreement < 0.9
    assert refusal(found, None, 0.99) is not None
    assert refusal(found, standing_of(filled(ROWS)), 0.99) is not None
    assert refusal(found, found, 0.99) is None
    # One that was emptied answers badly: that is no measure.
    broken = Standing("in use", rows=120, missing=3, questions=60, same=0)
    assert refusal(found, broken, 0.99) is not None


def test_another_match_is_another_answer() -> None:
    """The nearest copy is not found, a further one is: still a duplicate, of something else. Break: the kind alone."""
    near, further = hit(0.95, name="near"), hit(0.9, name="further")
    found = Standing("copy")
    _note(found, Question(row(0), [near, further]), [further], RULE)
    _note(found, Question(row(0), [near, further]), [further, near], RULE)
    assert (found.questions, found.same, found.nearest, found.found) == (2, 1, 4, 3)


def test_exact_answers_do_not_depend_on_the_pieces() -> None:
    """Break: keep a piece's neighbours only."""
    whole, pieces = Question(ROWS[4]), Question(ROWS[4])
    answer([whole], ROWS, 10)
    for start in range(0, 120, 7):
        answer([pieces], ROWS[start : start + 7], 10)
    assert [hit.row_id for hit in pieces.exact] == [hit.row_id for hit in whole.exact]
    own = filled(ROWS).search(ROWS[4].tenant, ROWS[4].embedding[None], STRONG)[0]
    assert [hit.row_id for hit in whole.exact][:9] == [hit.row_id for hit in own if hit.row_id != ROWS[4].row_id]


def test_the_sample_is_bounded_and_the_same_every_time() -> None:
    first, second = Sample(10, 1), Sample(10, 1)
    for sample in (first, second):
        sample.add(ROWS[:60])
        sample.add(ROWS[60:])
    assert [one.row_id for one in first.rows] == [one.row_id for one in second.rows]
    assert len({one.row_id for one in first.rows}) == 10
    assert any(one.ledger_offset >= 60 for one in first.rows)


def test_a_copy_that_was_begun_is_gone_on_with_and_the_one_in_use_never_is() -> None:
    """Break: take the highest number that exists."""
    assert target({}, None) == 1
    assert target({0: "c"}, 0) == 1
    assert target({0: "c", 1: "c_r1"}, 0) == 1
    assert target({0: "c", 1: "c_r1"}, 1) == 2
    assert target({1: "c_r1", 2: "c_r2"}, 1) == 2
    assert target({0: "c", 1: "c_r1", 2: "c_r2"}, 2) == 3


def test_the_reach_is_the_chains() -> None:
    """Break: count the links instead of the chain they make."""
    index, t0 = MemoryIndex(), 1 << 40
    for start, end in ((0, 10), (10, 30), (40, 50)):
        index.append_links([Link("ledger", 0, 2, start, end, t0 + end)])
    found = reach(index, "ledger", {0: (0, 35), 1: (0, 5)})
    assert (found.done, found.total) == (30, 40)
    assert (found.ends, found.timestamp) == ({0: 30, 1: 0}, t0 + 30)


class Ledger:
    """Stands for `LogReader`: committed records by partition, and where each partition ends for its readers."""

    def __init__(self, records: Mapping[int, Sequence[int]], ends: Mapping[int, int]) -> None:
        self._records = records
        self._ends = ends
        self._at = (0, 0)
        self.read_of: list[int] = []

    def start(self, partition: int, offset: int) -> None:
        self._at = (partition, offset)

    def read(self, records_max: int, _wait_s: float) -> tuple[list[Record], int | None]:
        partition, at = self._at
        self.read_of.append(partition)
        left = [offset for offset in self._records[partition] if offset >= at][:records_max]
        if not left:
            return [], self._ends.get(partition)
        self._at = (partition, left[-1] + 1)
        return [Record("ledger", partition, offset, 0, [], b"") for offset in left], None


@pytest.mark.parametrize(("own", "lacking"), [(10, False), (9, False), (8, True), (0, True), (12, False)])
def test_a_copy_lacks_records_and_no_markers(own: int, lacking: bool) -> None:
    """The last record is 8, then a marker, then what came since. Breaks: compare offsets; count what came since."""
    ledger = Ledger({0: [*range(9), 11, 12]}, {0: 14})
    assert lacks(ledger, {0: own}, {0: 10}, 0.1) is lacking  # type: ignore[arg-type]
    assert len(ledger.read_of) <= 1


def test_a_marker_at_the_very_end_is_nothing_to_wait_for() -> None:
    """Break: read on until a record comes."""
    assert not lacks(Ledger({0: range(9)}, {0: 10}), {0: 9}, {0: 10}, 0.1)  # type: ignore[arg-type]


def test_the_partition_that_is_furthest_behind_is_read_first() -> None:
    """Of a hundred, each ends in a marker. Break: read them in their order."""
    ledger = Ledger({p: [] for p in range(99)} | {99: range(5_000)}, dict.fromkeys(range(99), 41))
    own = dict.fromkeys(range(99), 40) | {99: 7}
    assert lacks(ledger, own, dict.fromkeys(range(99), 41) | {99: 5_000}, 0.1)  # type: ignore[arg-type]
    assert ledger.read_of == [99]


def test_a_ledger_that_cannot_be_read_is_said() -> None:
    """Break: call it built."""
    with pytest.raises(BrokerUnavailable, match="ledger partition 0 was not read on from 3"):
        lacks(Ledger({0: []}, {}), {0: 3}, {0: 9}, 0.01)  # type: ignore[arg-type]


class Scripted(Builder):
    """A builder whose copy and ledger follow a clock: `own(t)` of one partition, whose end is at `end(t)`."""

    def __init__(self, own: Callable[[float], float], end: Callable[[float], float], slow_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.own, self.end, self._slow_s = own, end, slow_s
        self.service = cast("Any", SimpleNamespace(
            start=lambda: None, close=lambda: None, failure=None,
            stop=SimpleNamespace(wait=self._wait), health=SimpleNamespace(missing=dict),
        ))  # fmt: skip

    def _wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.now_s > 10_000

    def reach(self, index: Index | None = None) -> Reach:
        assert index is None
        return Reach(0, 0, {0: int(self.own(self.now_s))}, None)

    def _ends(self) -> dict[int, tuple[int, int]]:
        return {0: (0, int(self.end(self.now_s)))}

    def _lacks(self, _reader: object, own: Mapping[int, int], held: Mapping[int, tuple[int, int]]) -> bool:
        self.now_s += self._slow_s
        return own[0] < held[0][1]


@pytest.fixture
def built_s(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scripted], float]:
    """After how many seconds a builder says that it is done."""

    def run(builder: Scripted) -> float:
        monkeypatch.setattr(ops.reindex.build, "time", SimpleNamespace(monotonic=lambda: builder.now_s))
        monkeypatch.setattr(ops.reindex.build, "LogReader", lambda *_: SimpleNamespace(close=lambda: None))
        for name in ("settings", "_ledger"):
            monkeypatch.setattr(builder, name, None, raising=False)
        list(builder.build())
        return builder.now_s

    return run


def test_a_copy_is_built_when_it_has_what_was_there_moments_ago(built_s: Callable[[Scripted], float]) -> None:
    """An idle ledger; one that grows all the time; one that takes an hour. Break: take the first end for all."""
    assert built_s(Scripted(lambda _: 50, lambda _: 50)) == 1
    assert built_s(Scripted(lambda t: 100 * (t - 3), lambda t: 100 * t)) < 10
    late = Scripted(lambda t: min(300 * t, 100 * t + 720_000), lambda t: 100 * t + 720_000)
    done_s = built_s(late)
    assert late.own(done_s) >= late.end(done_s - CAUGHT_UP_S)
    assert done_s < 3_700


def test_a_slow_look_at_many_partitions_ends_too(built_s: Callable[[Scripted], float]) -> None:
    """Reading to the ends of a hundred partitions takes longer than a copy may be late. Break: count it as lateness."""
    assert built_s(Scripted(lambda _: 50, lambda _: 50, slow_s=2 * CAUGHT_UP_S)) < 3 * CAUGHT_UP_S
