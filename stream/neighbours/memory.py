"""The plain twin of the Milvus index: exact, in this process, a few lines of numpy.

Tests run the same cases over both, and the offline judge searches it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from threading import RLock

import numpy as np

from schemas.events import EMBEDDING_SIZE, Vector
from stream.neighbours.filters import checked_link_id, checked_row_id, checked_tenant, checked_topic_id
from stream.neighbours.protocol import Found, Hit, Link, Row
from stream.neighbours.rows import (
    best_hits,
    check_appended,
    check_guarantee,
    check_rows,
    check_vectors,
    hit_of_row,
    in_order,
)

_TICK = 2**18  # one millisecond of a Milvus timestamp


class MemoryIndex:
    """An `Index` that sees everything at once, whatever guarantee is asked for."""

    def __init__(self, neighbours_max: int = 10, dimension: int = EMBEDDING_SIZE) -> None:
        self.collection = "memory"
        self._neighbours_max = neighbours_max
        self._dimension = dimension
        self._lock = RLock()
        self._tenants: dict[str, _TenantRows] = {}
        self._rows: dict[str, Row] = {}
        self._inserted = 0
        self._links: dict[str, Link] = {}
        self._timestamp = 1_000 * _TICK

    def current(self) -> str:
        return self.collection

    def prepare(self) -> None:
        """Nothing to create."""

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        checked_tenant(tenant)
        check_guarantee(guarantee)
        check_vectors(vectors, self._dimension)
        with self._lock:
            rows = self._tenants.get(tenant)
            if rows is None:
                return [[] for _ in vectors]
            return [rows.nearest(vector, self._neighbours_max) for vector in _unit(vectors)]

    def get(self, row_ids: Sequence[str], guarantee: int | None) -> dict[str, Found]:
        check_guarantee(guarantee)
        with self._lock:
            rows = [self._rows[row_id] for row_id in map(checked_row_id, row_ids) if row_id in self._rows]
        return {row.row_id: Found(hit=hit_of_row(row, 1.0), entry=row.entry) for row in rows}

    def look_up(
        self, row_ids: Collection[str], links: Collection[Link], guarantee: int | None
    ) -> tuple[dict[str, Found], set[Link]]:
        rows = self.get(list(row_ids), guarantee)
        with self._lock:
            return rows, {link for link in links if self._links.get(checked_link_id(link)) == link}

    def insert(self, rows: Sequence[Row]) -> int:
        check_rows(rows, self._dimension)
        with self._lock:
            self._inserted += len(rows)
            for row in rows:
                if row.row_id not in self._rows:
                    self._rows[row.row_id] = row
                    self._tenants.setdefault(row.tenant, _TenantRows(self._dimension)).add(row)
            return self._tick()

    def append_links(self, links: Sequence[Link]) -> int:
        check_appended(links)
        with self._lock:
            self._links.update({checked_link_id(link): link for link in links})
            return self._tick()

    def links(
        self,
        ledger_topic_id: str | None,
        since: Mapping[int, int] | None,
        guarantee: int | None,
        *,
        bounded: bool = False,
    ) -> list[Link]:
        if not bounded:
            check_guarantee(guarantee)
        if ledger_topic_id is not None:
            checked_topic_id(ledger_topic_id)
        with self._lock:
            found = list(self._links.values())
        return in_order(
            link
            for link in found
            if ledger_topic_id in (None, link.ledger_topic_id)
            and (since is None or link.start >= since.get(link.ledger_partition, math.inf))
        )

    def delete_links(self, links: Sequence[Link]) -> None:
        with self._lock:
            for link in links:
                self._links.pop(checked_link_id(link), None)

    def count_rows(self) -> int:
        with self._lock:
            return self._inserted

    def close(self) -> None:
        """Nothing to let go of; rows stay."""

    def _tick(self) -> int:
        self._timestamp += _TICK
        return self._timestamp


class _TenantRows:
    """One tenant's rows and their unit vectors, in a matrix that doubles when full."""

    def __init__(self, dimension: int) -> None:
        self._rows: list[Row] = []
        self._matrix: Vector = np.empty((64, dimension), dtype=np.float32)

    def add(self, row: Row) -> None:
        if len(self._rows) == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.empty_like(self._matrix)])
        self._matrix[len(self._rows)] = _unit(row.embedding[None])[0]
        self._rows.append(row)

    def nearest(self, vector: Vector, limit: int) -> list[Hit]:
        """Hits of a unit vector. All that tie with the last one are ranked before the cut."""
        similarities = np.clip(self._matrix[: len(self._rows)] @ vector, -1.0, 1.0)
        least = np.partition(similarities, -limit)[-limit] if limit < len(similarities) else -np.inf
        places = np.flatnonzero(similarities >= least)
        return best_hits((hit_of_row(self._rows[place], float(similarities[place])) for place in places), limit)


def _unit(vectors: Vector) -> Vector:
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
