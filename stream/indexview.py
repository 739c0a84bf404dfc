"""What DECIDE knows of INDEX's progress: pins for searches, and whether the index fell back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream.errors import DejaviewError, LedgerGap, PartitionCountChanged
from stream.neighbours.protocol import STRONG, Index, Link
from stream.progress import Progress, chain_end, go_on, sort_links, started_anew


class IndexFellBack(DejaviewError):
    """The index shows less than a batch relied on, or was filled anew: throw it away, rebuild these windows."""

    def __init__(self, partitions: list[int]) -> None:
        super().__init__(f"the index fell back in ledger partitions {partitions}")
        self.partitions = partitions


class IndexMoved(IndexFellBack):
    """The index lies in another collection now: throw the batch away, rebuild all windows from its progress."""

    def __init__(self, partitions: list[int], collection: str) -> None:
        DejaviewError.__init__(self, f"the index was switched: collection {collection} is used from now on")
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Pin:
    """Searches that guarantee `timestamp` see every row below `offset`; without a timestamp they are `Strong`.

    `link` says so: while that very one is there, the index was neither emptied nor put back to before it.
    """

    offset: int
    timestamp: int | None
    link: Link | None


_NOTHING = Pin(0, STRONG, None)
SHARED_READ_S = 1.0
# A chain has some 150 links. They are read again, all of them, this often; what is new is read several times a second.
WHOLE_S = 5.0


class IndexView:
    """The progress of the owned partitions, by the local clock alone."""

    def __init__(
        self,
        index: Index,
        ledger_topic_id: str,
        partitions: int,
        pin_age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._ledger_topic_id = ledger_topic_id
        self._partitions = partitions
        self._pin_age_s = pin_age_s
        self._clock = clock
        self._all: tuple[float, list[Link]] | None = None
        self._whole_at_s = 0.0
        # Per partition (first seen, progress), oldest first: the first is pinned, later ones wait to be old enough.
        self._seen: dict[int, deque[tuple[float, Progress]]] = {}

    def open(self, partition: int) -> Progress | None:
        """Read one partition's progress. It may be a moment old: less progress only means a larger window.

        Raises:
            LedgerGap, PartitionCountChanged: the index belongs to another ledger.
            IndexUnavailable: no answer.
        """
        progress = self._progress(self._all_links(), partition)
        self._seen[partition] = deque([(self._clock(), progress)] if progress is not None else [])
        return progress

    def _all_links(self) -> list[Link]:
        """All links, read `Strong`; partitions that are opened together share one read."""
        now = self._clock()
        if self._all is None or now - self._all[0] > SHARED_READ_S:
            self._all = (now, self._index.links(None, None, STRONG))
        return self._all[1]

    def close(self, partition: int) -> None:
        self._seen.pop(partition, None)

    def follow(self) -> None:
        """Go where the index is, if it was switched to another collection. Between two batches only.

        Raises:
            IndexMoved: it was. IndexUnavailable: no answer.
        """
        if self._index.current() != self._index.collection:
            self.prepare()

    def prepare(self) -> None:
        """Make the index ready again: a collection that was released or dropped is loaded or made.

        Raises:
            IndexMoved: it is another collection. A timestamp of the old one guarantees nothing of the new one, whose
                rows may have come later: every pin is void.
            IndexUnavailable: no answer.
        """
        before = self._index.collection
        self._index.prepare()
        if self._index.collection != before:
            self._all = None
            raise IndexMoved(list(self._seen), self._index.collection)

    def refresh(self) -> None:
        """Read the progress of all open partitions, fast: what came since the pinned links, if those are there.

        Raises:
            IndexFellBack: less is there than was seen before, or it was filled anew (confirmed by a `Strong` read).
            IndexUnavailable: no answer.
        """
        if not self._seen or (self._clock() < self._whole_at_s and self._went_on()):
            return
        everything = dict.fromkeys(self._seen, 0)
        if self._note(self._index.links(self._ledger_topic_id, everything, STRONG, bounded=True)):
            self.look_again()
        self._whole_at_s = self._clock() + WHOLE_S

    def look_again(self) -> None:
        """Read whole chains, and wait for the latest: a pinned link was not found.

        Raises:
            IndexFellBack: less is there than was seen before, or it was filled anew.
            IndexUnavailable: no answer.
        """
        everything = dict.fromkeys(self._seen, 0)
        fallen = self._note(self._index.links(self._ledger_topic_id, everything, STRONG))
        if fallen:
            self._all = None
            raise IndexFellBack(fallen)

    def _went_on(self) -> bool:
        """Take in the links since the pinned ones. False when one of those is not there: only whole chains tell."""
        pinned = {partition: seen[0][1] for partition, seen in self._seen.items() if seen}
        since = {partition: pinned[partition].last.start if partition in pinned else 0 for partition in self._seen}
        links = self._by_partition(self._index.links(self._ledger_topic_id, since, STRONG, bounded=True))
        now = {p: go_on(pinned[p], own) if p in pinned else chain_end(own) for p, own in links.items()}
        for partition, progress in now.items():
            self._advance(partition, progress)
        return all(now[partition] is not None for partition in pinned)

    def pin(self, partition: int) -> Pin:
        """The newest progress whose guarantee costs no wait, or the one pinned before."""
        seen = self._seen[partition]
        now = self._clock()
        while len(seen) > 1 and now - seen[1][0] >= self._pin_age_s:
            seen.popleft()
        return Pin(seen[0][1].offset, seen[0][1].timestamp, seen[0][1].last) if seen else _NOTHING

    def newest(self, partition: int) -> int:
        """The furthest ledger offset known to be in the index."""
        seen = self._seen.get(partition)
        return seen[-1][1].offset if seen else 0

    def _note(self, links: Iterable[Link]) -> list[int]:
        """Take whole chains in; returns the partitions that show less than their pin, or another chain."""
        fallen: list[int] = []
        for partition, own in self._by_partition(links).items():
            seen = self._seen[partition]
            progress = chain_end(own)
            if seen and (progress is None or progress.offset < seen[0][1].offset or started_anew(seen[0][1], own)):
                fallen.append(partition)
            else:
                self._advance(partition, progress)
        return fallen

    def _by_partition(self, links: Iterable[Link]) -> dict[int, list[Link]]:
        by_partition: dict[int, list[Link]] = {partition: [] for partition in self._seen}
        for link in links:
            by_partition[link.ledger_partition].append(link)
        return by_partition

    def _advance(self, partition: int, progress: Progress | None) -> None:
        seen = self._seen[partition]
        if progress is not None and (not seen or progress.offset > seen[-1][1].offset):
            seen.append((self._clock(), progress))

    def _progress(self, links: Iterable[Link], partition: int) -> Progress | None:
        sorted_links = sort_links(links, self._ledger_topic_id, partition, self._partitions)
        check_links(sorted_links.other_ledgers, sorted_links.other_counts, self._ledger_topic_id, self._partitions)
        return chain_end(sorted_links.own)


def check_links(other_ledgers: list[Link], other_counts: list[Link], ledger_topic_id: str, partitions: int) -> None:
    """Refuse an index that was built from another ledger.

    Raises:
        LedgerGap: another topic id. PartitionCountChanged: another number of partitions.
    """
    if other_ledgers:
        raise LedgerGap(
            f"the index was built from ledger topic id {other_ledgers[0].ledger_topic_id}, this ledger is "
            f"{ledger_topic_id}: the topic was created anew. Set `index.collection` to a new name, or restore it."
        )
    if other_counts:
        raise PartitionCountChanged(
            f"the index was built with {other_counts[0].partitions} ledger partitions, the topic has {partitions}. "
            "Tenants would change their judge: go back to the old count, or start new fingerprints and ledger topics "
            "and a new `index.collection`, and send the uploads again."
        )
