"""What DECIDE asks of the index for a batch: once a tenant, then for the rows and the pinned links together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from schemas.events import Vector
from stream.config import IndexSettings
from stream.indexview import Pin
from stream.judge import Judge, Knowledge
from stream.lookup import Lookup
from stream.memory import Memory
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.milvus import MilvusIndex
from stream.neighbours.protocol import STRONG, Found, Hit, Link
from stream.window import Window
from tests.support.made import MODEL_ID, fingerprint, random_vector, rule_of, work

T0 = 1 << 40


def link(partition: int, end: int) -> Link:
    return Link("ledger-1", partition, 3, 0, end, T0 + end)


def pin(partition: int, end: int) -> Pin:
    return Pin(end, T0 + end, link(partition, end))


class Asked(MemoryIndex):
    """Notes what was guaranteed to whom."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int | None]] = []

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        self.asked.append((tenant, guarantee))
        return super().search(tenant, vectors, guarantee)

    def look_up(
        self, row_ids: Collection[str], links: Collection[Link], guarantee: int | None
    ) -> tuple[dict[str, Found], set[Link]]:
        self.asked.append((f"{len(row_ids)} rows, {len(links)} links", guarantee))
        return super().look_up(row_ids, links, guarantee)


def look(index: MemoryIndex, pins: Mapping[int, Pin], partitions: Collection[int]) -> Knowledge:
    """What is known of one upload of a tenant of its own in each of these partitions."""
    judge = Judge(Window(10), Memory(10), rule_of)
    works = [work(fingerprint(n, random_vector(n), tenant=f"tenant-{n}"), partition=n) for n in partitions]
    lookup = Lookup(index, cast("Any", None), lambda _partition: judge, 1.0)
    return lookup.read(works, pins)


@pytest.mark.parametrize("gone", [None, 0, 1, 2])
def test_every_pin_of_a_batch_must_hold(gone: int | None) -> None:
    """R4. Breaks, each tried: one that holds is enough; look for the first only."""
    index = Asked()
    pins = {n: pin(n, 5 + n) for n in range(3)}
    index.append_links([one.link for one in pins.values() if one.link is not None])
    if gone is not None:
        index.delete_links([link(gone, 5 + gone)])
    assert look(index, pins, range(3)).pins_hold is (gone is None)
    # Nothing was asked of the other partitions' rows.
    assert look(index, pins, [n for n in range(3) if n != gone]).pins_hold


def test_a_link_that_was_written_anew_is_no_pin() -> None:
    """The index was emptied and filled again. Break: compare links by their ids."""
    index = MemoryIndex()
    index.append_links([Link("ledger-1", 0, 3, 0, 5, T0 + 9)])
    assert not look(index, {0: pin(0, 5)}, [0]).pins_hold


def test_what_is_guaranteed() -> None:
    """A tenant's search sees what its partition's pin vouches for, the look-up what any does; without a pin all.

    Breaks, each tried: the least of the timestamps; the greatest where a partition has none.
    """
    index = Asked()
    pins = {0: pin(0, 5), 1: pin(1, 8), 2: Pin(0, STRONG, None)}
    look(index, pins, [0, 1])
    assert sorted(index.asked[:2]) == [("tenant-0", T0 + 5), ("tenant-1", T0 + 8)]
    assert index.asked[2:] == [("2 rows, 2 links", T0 + 8)]
    index.asked.clear()
    look(index, pins, [0, 2])
    assert index.asked[-1] == ("2 rows, 1 links", STRONG)
    index.asked.clear()
    assert look(index, pins, []).pins_hold
    assert index.asked == []


def test_links_are_asked_for_with_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that was emptied between two requests shows no link. Break: links first."""
    asked: list[str] = []
    index = MilvusIndex(IndexSettings(uri="http://127.0.0.1:1"), MODEL_ID)

    def query(wanted: str, *_: object) -> list[object]:
        asked.append(wanted)
        return []

    monkeypatch.setattr(index, "_query", query)
    row_ids = [f"{n:032x}" for n in range(130)]
    assert index.look_up(row_ids, [link(0, 5), link(1, 5)], T0) == ({}, set())
    assert [wanted.count("link:") for wanted in asked] == [0, 2]
    assert row_ids[-1] in asked[-1]
