"""What DECIDE and INDEX ask of an index.

An index holds rows (representatives, one tenant each) and links (how far INDEX has come, see
`stream/progress.py`). Both arrive by insert alone; a row inserted twice is one row to its readers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.events import Vector, VerdictKind

# Smaller ones are no time: Milvus reads 0 as "strong or eventual" and 1 as "eventual" (facts).
TIMESTAMP_MIN = 2**18


@dataclass(frozen=True, slots=True)
class Row:
    """A representative as the index keeps it.

    `embedding` is float32 [D], finite, not zero. `entry` is its ledger entry as JSON, without the
    embedding, at most 65,535 bytes.
    """

    row_id: str
    tenant: str
    upload_id: str
    sha256: str
    pdq: str
    pdq_quality: int
    bias: float
    verdict: VerdictKind
    ledger_partition: int
    ledger_offset: int
    entry: str
    embedding: Vector


class Hit(NamedTuple):
    """A row near a query: what the decision needs of it, and the cosine similarity in [-1, 1].

    A tuple, because a batch makes thousands: a frozen dataclass took a sixth of DECIDE's time.
    """

    row_id: str
    tenant: str
    upload_id: str
    sha256: str
    pdq: str
    pdq_quality: int
    bias: float
    verdict: VerdictKind
    ledger_offset: int
    similarity: float

    def at(self, similarity: float) -> Hit:
        """The same row, near another query."""
        return tuple.__new__(Hit, (*self[:-1], similarity))


@dataclass(frozen=True, slots=True)
class Found:
    """A row found by its id, with the ledger entry that made it."""

    hit: Hit
    entry: str


@dataclass(frozen=True, slots=True)
class Link:
    """One step of INDEX: the ledger's offsets [start, end) of a partition are in the index.

    `timestamp` is the index's acknowledgement of the rows: a search that guarantees it sees them.
    An empty link (start = end) claims nothing; INDEX writes one at start to prove its path.

    Raises:
        ValueError: end before start, a partition beyond the count, or no real timestamp.
    """

    ledger_topic_id: str
    ledger_partition: int
    partitions: int
    start: int
    end: int
    timestamp: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a link goes from an offset to the same or a later one, got [{self.start}, {self.end})")
        if not 0 <= self.ledger_partition < self.partitions:
            raise ValueError(f"a link's partition lies below {self.partitions}, got {self.ledger_partition}")
        if self.timestamp < TIMESTAMP_MIN:
            raise ValueError(f"a link's timestamp is an acknowledgement's (2**18 or more), got {self.timestamp}")

    @property
    def link_id(self) -> str:
        """Primary key. Another topic's, partition's or step's link never has the same."""
        return f"link:{self.ledger_topic_id}:{self.ledger_partition}:{self.start}:{self.end}"


# A search or get that must see everything written before it (`Strong`), at the cost of waiting for it.
STRONG: int | None = None


class Index(Protocol):
    """Calls raise `IndexUnavailable` when there is no complete answer, never a partial or an empty one.

    `guarantee` is a timestamp of `insert` or `append_links`: the answer sees all that was written up
    to it; `STRONG` (None) sees everything. Below `TIMESTAMP_MIN` it is refused with ValueError, as is
    a tenant, row id or topic id that could not be one. `NotPermitted` and `StageStopped` (the index
    says that a request is malformed: a bug, here or there) may come from every call.

    Safe to call from several threads, `prepare` only while no other call depends on which collection answers.
    """

    @property
    def collection(self) -> str:
        """The collection that calls go to. Only `prepare` changes it."""

    def current(self) -> str:
        """The collection that the deployment's name stands for now: another one after `dejaview reindex`."""

    def prepare(self) -> None:
        """Go to the current collection; create it or check the one that is there; load it. May be called again.

        Raises:
            WrongCollection: another dimension, metric, index type, model or schema, or rows that expire.
            NotPermitted: the credentials are refused.
            IndexUnavailable: no answer, or not loaded yet.
        """

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        """The tenant's nearest rows for each of float32 [N, D].

        Most similar first, equals by ledger offset, `neighbours_max` at most, every row id once.
        """

    def get(self, row_ids: Sequence[str], guarantee: int | None) -> dict[str, Found]:
        """The rows of these ids (`similarity` 1), those that exist."""

    def look_up(
        self, row_ids: Collection[str], links: Collection[Link], guarantee: int | None
    ) -> tuple[dict[str, Found], set[Link]]:
        """`get`, and which of these links are there as they are given, asked with the last of the rows or after them.

        A link comes after the rows it vouches for: `guarantee` may show those without it.
        """

    def insert(self, rows: Sequence[Row]) -> int:
        """Add rows, one at least; returns the acknowledgement's timestamp.

        After an error some of the rows may be there: insert them all again.
        """

    def append_links(self, links: Sequence[Link]) -> int:
        """Add links, one at least; returns the acknowledgement's timestamp (of the links, not of their rows).

        After an error some of them may be there: each says what it says alone.
        """

    def links(
        self,
        ledger_topic_id: str | None,
        since: Mapping[int, int] | None,
        guarantee: int | None,
        *,
        bounded: bool = False,
    ) -> list[Link]:
        """The links of a ledger (None: of all), by partition and start.

        `since`: of these partitions alone, and of each only links that start at the given offset or later; None: all.
        `bounded` reads fast, ignores `guarantee` and may miss the latest.
        """

    def delete_links(self, links: Sequence[Link]) -> None:
        """Remove links that newer ones have made needless, or that belong to no chain."""

    def count_rows(self) -> int:
        """How many rows (links not counted, repeats counted) the index holds, about."""

    def close(self) -> None:
        """Let go of connections. A later call opens them again."""
