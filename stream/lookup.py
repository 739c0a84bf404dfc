"""What a batch needs to know before it is judged: the index's answers, and ledger entries for repeats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from schemas.events import LedgerEntry
from stream.decision import Item
from stream.indexview import Pin
from stream.judge import Judge, Knowledge, Work, stacked
from stream.kafka import LogReader
from stream.ledger import read_entries
from stream.neighbours.protocol import STRONG, Found, Hit, Index

SEARCH_THREADS = 4


class Lookup:
    """Reads for one batch at a time; the index is asked for several tenants at once."""

    def __init__(self, index: Index, repeats: LogReader, judge_of: Callable[[int], Judge], timeout_s: float) -> None:
        self._index = index
        self._repeats = repeats
        self._judge_of = judge_of
        self._timeout_s = timeout_s
        self._searches = ThreadPoolExecutor(SEARCH_THREADS, thread_name_prefix="search")

    def close(self) -> None:
        self._searches.shutdown(wait=False, cancel_futures=True)
        self._repeats.close()

    def read(self, works: Sequence[Work], pins: Mapping[int, Pin]) -> Knowledge:
        """Ask the index once per tenant, then for all row ids and pins at once; read the ledger for known repeats."""
        items: dict[tuple[int, int], Item] = {}
        repeated: dict[int, set[int]] = defaultdict(set)
        for work in works:
            judge = self._judge_of(work.partition)
            if work.item is not None and judge.needs_search(work):
                items[work.partition, work.offset] = work.item
            place = judge.repeated_entry(work)
            if place is not None:
                repeated[work.partition].add(place)
        entries: dict[tuple[int, int], LedgerEntry] = {}
        for partition, offsets in repeated.items():
            read = read_entries(self._repeats, partition, offsets, self._timeout_s)
            entries.update({(partition, offset): entry for offset, entry in read.items()})
        hits = self._search(items, pins)
        rows, pins_hold = self._rows(items, pins)
        return Knowledge(hits, rows, entries, pins_hold)

    def _search(
        self, items: Mapping[tuple[int, int], Item], pins: Mapping[int, Pin]
    ) -> dict[tuple[int, int], Sequence[Sequence[Hit]]]:
        by_tenant: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        for place, item in items.items():
            by_tenant[place[0], item.tenant].append(place)

        def ask(group: tuple[tuple[int, str], list[tuple[int, int]]]) -> list[list[list[Hit]]]:
            (partition, tenant), places = group
            vectors, views = stacked([items[place] for place in places])
            hits = self._index.search(tenant, vectors, pins[partition].timestamp)
            return [hits[own.start : own.stop] for own in views]

        answers = self._searches.map(ask, by_tenant.items())
        found: dict[tuple[int, int], Sequence[Sequence[Hit]]] = {}
        for places, hits in zip(by_tenant.values(), answers, strict=True):
            found.update(zip(places, hits, strict=True))
        return found

    def _rows(self, items: Mapping[tuple[int, int], Item], pins: Mapping[int, Pin]) -> tuple[dict[str, Found], bool]:
        """The rows with the items' own ids; and, asked after the searches, whether what they relied on was there."""
        used = {pins[partition] for partition, _ in items}
        if not used:
            return {}, True
        known = [pin.timestamp for pin in used if pin.timestamp is not None]
        guarantee = max(known) if len(known) == len(used) else STRONG
        links = [pin.link for pin in used if pin.link is not None]
        rows, there = self._index.look_up({item.row_id for item in items.values()}, links, guarantee)
        return rows, there == set(links)
