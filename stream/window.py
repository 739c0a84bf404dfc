"""The window: the representatives of one ledger partition that the index may not show yet.

Rows enter in ledger order after their transaction and leave from the old end once a search is
guaranteed to see them in the index. Nothing is ever evicted to make room: a full window pauses
its partition.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from schemas.events import EMBEDDING_SIZE, Vector
from stream.neighbours.protocol import Hit

# A tenant's first row brings room for so many: most tenants of a window have few rows, each costs 1 kB of vector.
_FIRST_ROWS = 2
# Room beyond this multiple of a tenant's rows is given back: thousands of tenants may have had their peaks one
# after another, and the bound is one for all of them (`ops/capacity.py`).
_ROOM_SHARE_MAX = 2
_ROWS_TRIMMED_MIN = 64
# So many are compared with all rows at once, at 16 bytes a comparison: a batch of collages has five views an upload.
VECTORS_AT_ONCE = 64


class TenantRows:
    """One tenant's rows: a growing matrix with the row data beside it. Rows before `_start` are gone."""

    def __init__(self) -> None:
        self._vectors: Vector = np.empty((_FIRST_ROWS, EMBEDDING_SIZE), dtype=np.float32)
        self._hits: list[Hit] = []
        self._start = 0
        self._ids: dict[str, Hit] = {}

    def __len__(self) -> int:
        return len(self._hits) - self._start

    def append(self, hit: Hit, embedding: Vector) -> None:
        if len(self._hits) == len(self._vectors):
            self._make_room()
        end = len(self._hits)
        self._vectors[end] = embedding
        self._hits.append(hit)
        self._ids.setdefault(hit.row_id, hit)

    def drop_first(self) -> None:
        hit = self._hits[self._start]
        self._start += 1
        if self._ids.get(hit.row_id) is hit:
            del self._ids[hit.row_id]
        if len(self._vectors) >= _ROWS_TRIMMED_MIN and len(self._vectors) > _ROOM_SHARE_MAX * len(self):
            self._make_room()

    def nearest(self, vectors: Vector, row_ids: list[str], rows_max: int) -> list[list[Hit]]:
        """For each of float32 [N, 256] the most similar rows, as the index has them, and the one with its own id."""
        if not len(self):
            return [[] for _ in row_ids]
        found: list[list[Hit]] = []
        for start in range(0, len(vectors), VECTORS_AT_ONCE):
            some = slice(start, start + VECTORS_AT_ONCE)
            found += self._nearest(vectors[some], row_ids[some], min(rows_max, len(self)))
        return found

    def _nearest(self, vectors: Vector, row_ids: list[str], keep: int) -> list[list[Hit]]:
        similarity = vectors @ self._vectors[self._start : len(self._hits)].T
        columns = np.argpartition(-similarity, keep - 1, axis=1)[:, :keep]
        found = []
        for n, row_id in enumerate(row_ids):
            hits = [self._hits[self._start + c].at(float(similarity[n, c])) for c in columns[n]]
            own = self._ids.get(row_id)
            found.append([*hits, own] if own is not None else hits)
        return found

    def _make_room(self) -> None:
        """Move the rows to arrays of half as many again; those that were dropped are let go."""
        used = slice(self._start, len(self._hits))
        size = max(_FIRST_ROWS, len(self) + len(self) // 2 + 1)
        vectors = np.empty((size, EMBEDDING_SIZE), dtype=np.float32)
        vectors[: len(self)] = self._vectors[used]
        self._vectors, self._hits, self._start = vectors, self._hits[used], 0


class Window:
    """All tenants of one ledger partition, at most `rows_max` rows."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._tenants: dict[str, TenantRows] = {}
        self._order: deque[tuple[int, str]] = deque()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def room(self) -> int:
        """Rows that still fit; negative after a restore of a ledger that INDEX is far behind of."""
        return self._rows_max - len(self._order)

    @property
    def first_offset(self) -> int | None:
        return self._order[0][0] if self._order else None

    def append(self, hit: Hit, embedding: Vector) -> None:
        """Add a committed representative.

        Raises:
            ValueError: its ledger offset is not above all others'.
        """
        if self._order and hit.ledger_offset <= self._order[-1][0]:
            raise ValueError(f"ledger offset {hit.ledger_offset} after {self._order[-1][0]}")
        self._tenants.setdefault(hit.tenant, TenantRows()).append(hit, embedding)
        self._order.append((hit.ledger_offset, hit.tenant))

    def drop_below(self, offset: int) -> None:
        """Rows below this ledger offset are in the index for every search to come."""
        while self._order and self._order[0][0] < offset:
            _, tenant = self._order.popleft()
            rows = self._tenants[tenant]
            rows.drop_first()
            if not len(rows):
                del self._tenants[tenant]

    def nearest(self, tenant: str, vectors: Vector, row_ids: list[str], rows_max: int) -> list[list[Hit]]:
        """The tenant's rows near float32 [N, 256]: the `rows_max` most similar, and the one of the same id."""
        rows = self._tenants.get(tenant)
        return rows.nearest(vectors, row_ids, rows_max) if rows is not None else [[] for _ in row_ids]
