"""How far INDEX has come, read from the links it left in the index. Pure: no I/O.

After every batch of rows INDEX appends a link: the ledger's offsets [start, end) are in the index.
Links that touch or overlap form a chain. A chain counts when it is whole, that is

- it starts at offset 0, or
- more than `CHAIN_LINKS_KEPT` steps long: older links are deleted only when that many newer ones follow.

So an index that was emptied, half-written or put back from an old copy shows it by itself: what is
left of its links is a short chain that starts in the middle, and that is no progress.

An emptied index whose INDEX went on writing would look whole again after 100 more links. It cannot
come to that: before every write INDEX looks for the link it wrote last, and reads the whole chain
before every tenth; it starts again at the chain's end. What it may leave until then (its rows or
its link arrived just after the emptying) are stray links. INDEX deletes `strays` when it starts
again, or the growing chain would one day join a link whose rows are gone. One window links alone
cannot close: an emptying between the rows and the link of the very first step (or a restore to just
that step). INDEX looks a row of the step up after its link, and deletes the link when it is not
there; what it finds at its start as one step from 0 it goes again (`unproven`).

Steps may repeat or overlap with other ends (a crash between rows and link, two owners in a
rebalance): a chain is a union, and its end the furthest offset reached without a gap. An empty link
(start = end) claims nothing and counts as no step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from stream.neighbours.protocol import Link

CHAIN_LINKS_KEPT = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """The ledger's offsets below `offset` are in the index; a search that guarantees `timestamp` sees them.

    `last` is the link that reaches `offset`. While it is there, and was not written anew, the index was neither emptied
    nor put back to before it.
    """

    last: Link
    timestamp: int
    first_link_start: int
    links: int

    @property
    def ledger_topic_id(self) -> str:
        return self.last.ledger_topic_id

    @property
    def ledger_partition(self) -> int:
        return self.last.ledger_partition

    @property
    def partitions(self) -> int:
        return self.last.partitions

    @property
    def offset(self) -> int:
        return self.last.end


@dataclass(frozen=True, slots=True)
class SortedLinks:
    """The links of an index, seen by the owner of one partition.

    `other_ledgers` not empty: the index was built from another ledger (`LedgerGap`).
    `other_counts` not empty: it was built with another number of partitions (`PartitionCountChanged`).
    """

    own: list[Link]
    other_ledgers: list[Link]
    other_counts: list[Link]


def sort_links(links: Iterable[Link], ledger_topic_id: str, ledger_partition: int, partitions: int) -> SortedLinks:
    """Tell a partition's own links from those that show a changed ledger. Other partitions' are left out."""
    found = SortedLinks([], [], [])
    for link in links:
        if link.ledger_topic_id != ledger_topic_id:
            found.other_ledgers.append(link)
        elif link.partitions != partitions:
            found.other_counts.append(link)
        elif link.ledger_partition == ledger_partition:
            found.own.append(link)
    return found


def chain_end(links: Iterable[Link]) -> Progress | None:
    """The end of the unbroken chain, None when there is none.

    Args:
        links: those of one partition (`SortedLinks.own`), in any order.

    Raises:
        ValueError: links of several partitions, ledgers or partition counts.
    """
    chain = _whole_chain(_chains(links))
    if chain is None:
        return None
    return Progress(
        last=_last(chain),
        timestamp=max(link.timestamp for link in chain),
        first_link_start=chain[0].start,
        links=len(chain),
    )


def go_on(progress: Progress, links: Iterable[Link]) -> Progress | None:
    """The progress now, told by the partition's links from `progress.last.start` on alone.

    None when `progress.last` is not among them: the index was emptied or put back, or the link became needless; only
    the whole chain tells.
    """
    own = set(links)
    if progress.last not in own:
        return None
    (chain,) = (chain for chain in _chains(own) if progress.last in chain)
    return replace(
        progress,
        last=_last(chain),
        timestamp=max(progress.timestamp, *(link.timestamp for link in chain)),
        links=progress.links + len(chain) - 1,
    )


def end_since(last: Link, links: Collection[Link]) -> int | None:
    """How far the partition's links reach that start where `last` does or later; None when it is not among them.

    Whoever wrote `last` goes by its id: written twice, a server may show either.
    """
    there = any(link.link_id == last.link_id for link in links)
    return max(link.end for link in links) if there else None


def started_anew(progress: Progress, links: Iterable[Link]) -> bool:
    """Whether the index was emptied or put back since `progress`, told by all of the partition's links now.

    It may have been filled again, and reach further than before: but what `progress.timestamp` guaranteed is gone.
    INDEX itself deletes the last link of a chain only when more than `CHAIN_LINKS_KEPT` newer steps follow. That very
    link written again, where the server shows one of both, is taken for it: once, since the new one is relied on then.
    """
    own = list(links)
    if progress.last in own:
        return False
    return _steps([link for link in own if link.start >= progress.last.start]) <= CHAIN_LINKS_KEPT


def needless(links: Iterable[Link]) -> list[Link]:
    """Links that may be deleted: more than `CHAIN_LINKS_KEPT` newer steps follow. Oldest first.

    Deleting them all, or any of them (a crash in the middle), leaves `chain_end` where it is.
    """
    chains = _chains(links)
    chain = _whole_chain(chains)
    if chain is None:
        return []
    older = [link for other in chains if other[0].start < chain[0].start for link in other]
    first_kept = _first_kept(chain)
    # They are deleted by their ids, which a step that was linked twice has twice.
    kept = {link.link_id for link in chain[first_kept:]}
    return older + [link for link in chain[:first_kept] if link.link_id not in kept]


def unproven(links: Iterable[Link]) -> list[Link]:
    """The links of a chain that is nothing but its first step.

    INDEX looks a row of that step up after its link, and may have died in between: it goes that step again.
    """
    chain = _whole_chain(_chains(links)) or []
    steps = [link for link in chain if link.start < link.end]
    return steps if all(link.start == 0 for link in steps) else []


def strays(links: Iterable[Link]) -> list[Link]:
    """Links beyond the chain's end (all, when there is no chain): what they claim cannot be relied on.

    INDEX deletes them before it writes. Ask with links read `STRONG`: a read that misses a link
    makes strays of those behind it.
    """
    chains = _chains(links)
    chain = _whole_chain(chains)
    end = -1 if chain is None else _reach(chain)
    return [link for other in chains if other[0].start > end for link in other]


def _chains(links: Iterable[Link]) -> list[list[Link]]:
    """Links by start, cut wherever there is a gap."""
    ordered = sorted(set(links), key=lambda link: (link.start, link.end, link.timestamp))
    if len({(link.ledger_topic_id, link.ledger_partition, link.partitions) for link in ordered}) > 1:
        raise ValueError("a chain is made of one partition's links; sort them with sort_links")
    chains: list[list[Link]] = []
    reach = -1
    for link in ordered:
        if not chains or link.start > reach:
            chains.append([])
        chains[-1].append(link)
        reach = max(reach, link.end)
    return chains


def _whole_chain(chains: list[list[Link]]) -> list[Link] | None:
    """The furthest whole chain. Below it lie only links whose deletion was cut short."""
    whole = (chain for chain in reversed(chains) if chain[0].start == 0 or _steps(chain) > CHAIN_LINKS_KEPT)
    return next(whole, None)


def _first_kept(chain: list[Link]) -> int:
    """The last place where a chain can be cut so that what remains is whole and says the same."""
    end, timestamp = _reach(chain), max(link.timestamp for link in chain)
    for place in range(len(chain) - CHAIN_LINKS_KEPT - 1, 0, -1):
        kept = chain[place:]
        says_the_same = _reach(kept) == end and max(link.timestamp for link in kept) == timestamp
        if says_the_same and _steps(kept) > CHAIN_LINKS_KEPT and len(_chains(kept)) == 1:
            return place
    return 0


def _reach(chain: list[Link]) -> int:
    return max(link.end for link in chain)


def _last(chain: list[Link]) -> Link:
    """The link that reaches furthest; an empty one only where there is no other."""
    return max(chain, key=lambda link: (link.end, link.start < link.end, link.start, link.timestamp))


def _steps(chain: list[Link]) -> int:
    """Steps of a chain; repeats of one step count once, an empty link is none."""
    return len({link.start for link in chain if link.start < link.end})
