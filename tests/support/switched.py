"""A plain index of several collections, one of which its name stands for: what Milvus's alias does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from schemas.events import Vector
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.protocol import Found, Hit, Link, Row


class Switched:
    """An `Index`. `live` is what the name stands for; calls go to `collection` until `prepare`."""

    def __init__(self, collections: dict[str, MemoryIndex], live: str) -> None:
        self.collections = collections
        self.live = live
        self.collection = live
        # Called after rows were inserted, before their link.
        self.after_insert: Callable[[], None] = lambda: None

    def current(self) -> str:
        return self.live

    def prepare(self) -> None:
        self.collection = self.live

    @property
    def _used(self) -> MemoryIndex:
        return self.collections[self.collection]

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        return self._used.search(tenant, vectors, guarantee)

    def get(self, row_ids: Sequence[str], guarantee: int | None) -> dict[str, Found]:
        return self._used.get(row_ids, guarantee)

    def look_up(
        self, row_ids: Collection[str], links: Collection[Link], guarantee: int | None
    ) -> tuple[dict[str, Found], set[Link]]:
        return self._used.look_up(row_ids, links, guarantee)

    def insert(self, rows: Sequence[Row]) -> int:
        acknowledged = self._used.insert(rows)
        self.after_insert()
        return acknowledged

    def append_links(self, links: Sequence[Link]) -> int:
        return self._used.append_links(links)

    def links(
        self,
        ledger_topic_id: str | None,
        since: Mapping[int, int] | None,
        guarantee: int | None,
        *,
        bounded: bool = False,
    ) -> list[Link]:
        return self._used.links(ledger_topic_id, since, guarantee, bounded=bounded)

    def delete_links(self, links: Sequence[Link]) -> None:
        self._used.delete_links(links)

    def count_rows(self) -> int:
        return self._used.count_rows()

    def close(self) -> None:
        """Nothing to let go of."""
