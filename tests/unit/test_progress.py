"""Promise: progress never claims a ledger offset whose row is not in the index, whatever crashes, repeats,
emptyings and restores came before, and deleting needless links never moves it.

Breaks that these tests catch, each tried: `_whole_chain` counting every chain as whole; `_chains` joining
across a gap (`link.start > reach + 1`); `needless` keeping one link fewer; INDEX (below) not deleting strays;
`go_on` looking for a link of the same offsets in place of the very link; `started_anew` asking for it so;
`needless` naming a link whose id one of those it keeps has, too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import progress
from stream.index import WHOLE_EVERY
from stream.neighbours.protocol import Link
from stream.progress import Progress, chain_end, end_since, go_on, needless, sort_links, started_anew, strays, unproven

T = 2**18


def link(start: int, end: int, timestamp: int = T, *, topic: str = "ledger", partition: int = 0, of: int = 4) -> Link:
    return Link(topic, partition, of, start, end, timestamp)


def run_of(start: int, steps: int, size: int = 10) -> list[Link]:
    return [link(start + n * size, start + (n + 1) * size, T + start + n) for n in range(steps)]


def offset(links: list[Link]) -> int | None:
    end = chain_end(links)
    return None if end is None else end.offset


def test_no_links_are_no_progress() -> None:
    assert chain_end([]) is None


def test_a_chain_from_the_beginning_counts_up_to_its_first_gap() -> None:
    end = chain_end([*run_of(0, 3), link(31, 40)])
    assert end is not None
    assert (end.offset, end.timestamp, end.first_link_start, end.links) == (30, T + 2, 0, 3)
    assert (end.ledger_topic_id, end.ledger_partition, end.partitions) == ("ledger", 0, 4)


def test_a_short_chain_from_the_middle_is_no_progress() -> None:
    assert offset([link(1000, 1050)]) is None
    assert offset(run_of(1000, 100)) is None
    assert offset(run_of(1000, 101)) == 2010


def test_repeats_of_one_step_do_not_make_a_chain_long() -> None:
    assert offset([*run_of(1000, 100), *(link(1000, 1001 + n) for n in range(50))]) is None


def test_empty_links_claim_nothing() -> None:
    """INDEX writes one at every start, to prove its path."""
    assert offset([link(0, 0)]) == 0
    assert offset([link(1000, 1000)]) is None
    assert offset([*run_of(0, 3), link(30, 30), link(31, 31)]) == 30
    assert offset([*run_of(1000, 100), link(2000, 2000), *(link(n, n) for n in range(1001, 1010))]) is None
    assert strays([link(1000, 1000)]) == [link(1000, 1000)]
    assert needless([*run_of(0, 101), link(1010, 1010)]) == []


def test_repeated_and_overlapping_steps_join() -> None:
    assert offset([link(0, 10), link(0, 10, T + 1), link(0, 7), link(5, 20), link(20, 30)]) == 30


def test_links_of_another_ledger_or_count_are_told_apart() -> None:
    own, ledger, count, neighbour = link(0, 5), link(0, 5, topic="other"), link(0, 5, of=5), link(0, 5, partition=1)
    found = sort_links([own, ledger, count, neighbour], "ledger", 0, 4)
    assert (found.own, found.other_ledgers, found.other_counts) == ([own], [ledger], [count])


def test_links_of_several_partitions_make_no_chain() -> None:
    with pytest.raises(ValueError, match="one partition"):
        chain_end([link(0, 5), link(5, 10, partition=1)])


@pytest.mark.parametrize("bad", [(6, 5, T), (-1, 5, T), (0, 5, T - 1), (0, 5, 0)])
def test_a_link_that_is_none_is_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="link"):
        link(*bad)


def test_a_chain_of_one_step_from_0_is_unproven() -> None:
    """However often it was linked. Breaks: one that begins later; the first of several steps; the canary's link."""
    first = [link(0, 5), link(0, 9), link(0, 9, T + 1)]
    assert unproven([link(0, 0), *first, link(20, 30)]) == first
    assert unproven([*first, link(9, 12)]) == []
    assert unproven([link(0, 0)]) == unproven([]) == unproven(run_of(1000, 101)) == []


def test_needless_are_those_that_more_than_100_steps_follow() -> None:
    links = run_of(0, 150)
    assert needless(links) == links[:49]
    assert needless(run_of(0, 101)) == []
    assert needless(run_of(1000, 100)) == []


def test_a_step_that_was_linked_twice_is_deleted_whole_or_not_at_all() -> None:
    """Both of its links have one id. One named as needless took the other along, and the chain was one step short."""
    links = run_of(0, 150)
    links.append(replace(links[49], timestamp=T))
    ids = {one.link_id for one in needless(links)}
    assert ids == {one.link_id for one in links[:49]}
    assert offset([one for one in links if one.link_id not in ids]) == 1500


def test_a_long_link_below_the_others_is_kept_while_it_bridges_them() -> None:
    bridge = link(0, 500)
    links = [bridge, *run_of(10, 20, size=5), *run_of(500, 95)]
    assert bridge not in needless(links)


def test_repeats_among_the_kept_do_not_count_as_steps() -> None:
    links = [*run_of(1000, 103), *(link(2020, 2021 + n, T + 2020) for n in range(5))]
    assert len(needless(links)) == 2
    assert offset([one for one in links if one not in needless(links)]) == 2030


def test_strays_are_all_links_when_there_is_no_chain_and_those_beyond_it_otherwise() -> None:
    stray = link(1000, 1050)
    assert strays([stray]) == [stray]
    assert strays([*run_of(0, 3), stray]) == [stray]
    assert strays([*run_of(0, 3), link(30, 50)]) == []


links_anyhow = st.lists(
    st.builds(
        lambda start, size, timestamp: link(start, start + size, T + timestamp),
        st.integers(0, 60),
        st.integers(0, 8),
        st.integers(0, 40),
    ),
    max_size=60,
)


@given(links_anyhow, st.integers(0, 12), st.data())
def test_deleting_any_needless_links_says_the_same(links: list[Link], kept: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "CHAIN_LINKS_KEPT", kept)
        before = chain_end(links)
        removable = needless(links)
        gone = set(data.draw(st.lists(st.sampled_from(removable)))) if removable else set()
        for removed in (gone, set(removable)):
            ids = {one.link_id for one in removed}
            left = [one for one in links if one.link_id not in ids]
            after = chain_end(left)
            assert before is None or not started_anew(before, left)
            assert (after and (after.offset, after.timestamp)) == (before and (before.offset, before.timestamp))


@given(links_anyhow, st.integers(0, 12))
def test_every_offset_of_the_chain_is_in_a_link(links: list[Link], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "CHAIN_LINKS_KEPT", kept)
        end = chain_end(links)
        if end is None:
            assert all(one.start > 0 for one in links)
            return
        covered = {place for one in links for place in range(one.start, one.end)}
        assert set(range(end.first_link_start, end.offset)) <= covered
        assert all(one.start > end.offset for one in links if one.end > end.offset), "it stopped short"


@dataclass
class History:
    """An index and the one INDEX that writes it, as far as progress can see: a clock, rows, links."""

    clock: int = T
    rows: dict[int, int] = field(default_factory=dict)  # ledger offset -> first timestamp
    links: list[Link] = field(default_factory=list)
    copies: list[tuple[dict[int, int], list[Link]]] = field(default_factory=list)
    # INDEX's: the link it stands at, if it is not to begin again, and how often it wrote.
    last: Link | None = None
    writes: int = 0
    whole_every: int = 3
    # DECIDE's.
    seen: Progress | None = None
    pinned: Progress | None = None
    steps_since: int = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def step(self, size: int, crash: str, *, delete: bool, subset: int) -> None:
        """INDEX looks whether the index is what it left, or begins again, writes rows and a link; `crash` says after
        what it dies.
        """
        if crash == "restart":
            self.last = None
        whole = self.writes % self.whole_every == 0
        self.writes += 1
        last = self.last
        if last is not None:
            end = chain_end(self.links)
            since = end_since(last, [one for one in self.links if one.start >= last.start])
            if last.end != (since if not whole else end and end.offset):
                last = None
        if last is None:
            gone = strays(self.links)
            self.links = [one for one in self.links if one not in gone]
            end = chain_end(self.links)
            place, timestamp = (0, T) if end is None else (end.offset, end.timestamp)
            self.links.append(link(place, place, timestamp))
            last = self.links[-1] if end is None else end.last
        start = last.end
        if crash == "emptied after reading":
            self.rows, self.links = {}, []
        at = self.tick()
        for place in range(start, start + size):
            self.rows.setdefault(place, at)
        self.last = None
        if crash == "before the link":
            return
        if crash == "emptied before the link" and start > 0:
            self.rows, self.links = {}, []
        self.last = link(start, start + size, at)
        self.links.append(self.last)
        self.steps_since += 1
        if delete and whole:
            old = needless(self.links)
            dead = old[:: 1 + subset]
            self.links = [one for one in self.links if one not in dead]

    def empty(self) -> None:
        self.rows, self.links = {}, []

    def back_up(self) -> None:
        self.copies.append((dict(self.rows), copy.copy(self.links)))

    def restore(self, which: int) -> None:
        if self.copies:
            rows, links = self.copies[which % len(self.copies)]
            self.rows, self.links = dict(rows), copy.copy(links)

    def look(self) -> None:
        """DECIDE reads what came since, and the whole chain where that does not tell."""
        if self.seen is not None:
            start = self.seen.last.start
            self.seen = go_on(self.seen, [one for one in self.links if one.start >= start])
        self.seen = self.seen or chain_end(self.links)
        self._check(self.seen)

    def confirm(self, *, anew: bool) -> None:
        """DECIDE confirms a batch that relied on its pin, or pins anew."""
        end, pinned = chain_end(self.links), self.pinned
        if pinned is None or end is None or end.offset < pinned.offset or started_anew(pinned, self.links):
            self.pinned = end
        elif self.steps_since <= progress.CHAIN_LINKS_KEPT:
            # Every row that the batch's searches were to see was there all the time.
            self._check(pinned)
            self.pinned = end if anew else pinned
        else:
            # So many steps between two looks may have made the pinned link needless.
            self.pinned = end
        self.steps_since = 0

    def check(self) -> None:
        self._check(chain_end(self.links))

    def _check(self, end: Progress | None) -> None:
        if end is not None:
            missing = [n for n in range(end.offset) if self.rows.get(n, end.timestamp + 1) > end.timestamp]
            assert not missing, f"progress says {end.offset}, but these rows are not there: {missing}"


steps = st.tuples(
    st.just("step"),
    st.integers(1, 3),
    st.sampled_from(["", "", "", "restart", "before the link", "emptied after reading", "emptied before the link"]),
    st.booleans(),
    st.integers(0, 2),
)
events = st.lists(
    st.one_of(
        steps,
        steps,
        steps,
        st.tuples(st.just("empty")),
        st.tuples(st.just("back up")),
        st.tuples(st.just("look")),
        st.tuples(st.just("confirm"), st.booleans()),
        st.tuples(st.just("confirm"), st.booleans()),
        st.tuples(st.just("restore"), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(events, st.integers(2, 6))
def test_progress_never_claims_a_row_that_is_not_there(history: list[tuple[object, ...]], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "CHAIN_LINKS_KEPT", kept)
        index = History(whole_every=kept)
        for name, *arguments in history:
            if name == "step":
                size, crash, delete, subset = arguments
                index.step(int(str(size)), str(crash), delete=bool(delete), subset=int(str(subset)))
            elif name == "empty":
                index.empty()
            elif name == "back up":
                index.back_up()
            elif name == "look":
                index.look()
            elif name == "confirm":
                index.confirm(anew=bool(arguments[0]))
            else:
                index.restore(int(str(arguments[0])))
            index.check()


def test_progress_goes_on_from_its_last_link_alone() -> None:
    """What DECIDE reads before a commit: the links from the pinned one on. Break: take every chain for the one."""
    links = run_of(0, 120)
    pinned = chain_end(links[:110])
    assert pinned is not None
    assert pinned.last == links[109]
    assert go_on(pinned, links[109:]) == replace(pinned, timestamp=links[-1].timestamp, links=120, last=links[-1])
    assert links[-1].end == 1200
    assert go_on(pinned, [links[109]]) == pinned
    assert go_on(pinned, [links[109], links[111]]) == pinned
    assert go_on(pinned, links[110:]) is None
    assert go_on(pinned, [replace(links[109], timestamp=T * 2), *links[110:]]) is None
    assert go_on(pinned, []) is None


def test_an_index_that_was_filled_anew_is_told_from_one_that_went_on() -> None:
    """Its chain may reach as far as before. Breaks: `<` in place of `<=`; count all steps."""
    links = run_of(0, 120)
    pinned = chain_end(links)
    assert pinned is not None
    assert not started_anew(pinned, links)
    assert not started_anew(pinned, [links[-1]])
    again = [replace(one, timestamp=T * 2) for one in links]
    assert started_anew(pinned, again)
    assert started_anew(pinned, [*again, *run_of(1200, 99)])
    assert not started_anew(pinned, [*again, *run_of(1200, 100)])
    assert started_anew(pinned, [])


def test_the_last_link_is_one_that_claims_something() -> None:
    """The canary of a restart claims nothing, and may be written again after an emptying. Break: the latest start."""
    end = chain_end([*run_of(0, 3), link(30, 30, T + 99)])
    assert end is not None
    assert end.last == link(20, 30, T + 2)


def test_the_end_since_a_link() -> None:
    """Gone is gone; written by another is seen; written twice is there, whichever the server shows.

    Breaks: compare whole links; stop at the link's own end.
    """
    last = link(20, 30)
    assert end_since(last, [last]) == 30
    assert end_since(last, [link(20, 30, T + 5), link(30, 30)]) == 30
    assert end_since(last, [last, link(30, 45)]) == 45
    assert end_since(last, [link(20, 29), link(30, 40)]) is None
    assert end_since(last, []) is None


@pytest.mark.parametrize("kept", [2, 5])
@pytest.mark.parametrize("crash", ["emptied after reading", "emptied before the link"])
def test_what_an_emptying_leaves_until_the_next_look_is_no_chain(
    monkeypatch: pytest.MonkeyPatch, kept: int, crash: str
) -> None:
    """R4: INDEX goes on for as many steps as lie between two looks at whole chains. Break: one step more."""
    assert WHOLE_EVERY < progress.CHAIN_LINKS_KEPT
    monkeypatch.setattr(progress, "CHAIN_LINKS_KEPT", kept)
    for before in range(1, 3 * kept):
        index = History(whole_every=kept)
        for _ in range(before):
            index.step(10, "", delete=True, subset=0)
        index.step(10, crash, delete=True, subset=0)
        for _ in range(3 * kept):
            index.step(10, "", delete=True, subset=0)
            index.check()
        assert (offset(index.links) or 0) > 10 * kept


def test_an_emptied_index_starts_again_and_its_stray_link_never_joins() -> None:
    index = History()
    for _ in range(5):
        index.step(10, "", delete=False, subset=0)
    index.step(10, "emptied before the link", delete=False, subset=0)
    assert offset(index.links) is None
    for _ in range(6):
        index.step(10, "", delete=False, subset=0)
        index.check()
    assert offset(index.links) == 60


def test_a_later_timestamp_in_the_part_to_delete_keeps_it() -> None:
    links = run_of(0, 150)
    links[3] = replace(links[3], timestamp=T * 2)
    assert links[3] not in needless(links)
