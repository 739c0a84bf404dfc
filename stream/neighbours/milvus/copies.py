"""The collections of one deployment: the first one, and those that `dejaview reindex` built beside it."""

from __future__ import annotations

import re

from stream.config import IndexSettings
from stream.errors import IndexUnavailable
from stream.neighbours.milvus import alias, collection
from stream.neighbours.milvus.failures import asking
from stream.neighbours.milvus.index import MilvusIndex

FIRST = 0


def settings_of(settings: IndexSettings, copy: int) -> IndexSettings:
    """The settings under which a copy is a deployment's own collection; copy 0 is the first one."""
    if copy == FIRST:
        return settings
    return settings.model_copy(update={"collection": f"{settings.collection}_r{copy}"})


class MilvusCopies(MilvusIndex):
    """Looks at copies, switches between them and drops them. All calls raise IndexUnavailable and NotPermitted."""

    def copies(self) -> dict[int, str]:
        """Number -> collection, of those that exist."""
        names = {}
        ours = re.compile(rf"{re.escape(self._settings.collection)}_r(\d+)")
        suffix = self._name.removeprefix(self._settings.collection)
        with asking(self._doing("list collections")):
            existing = self._connected().list_collections(timeout=self._settings.timeout_s)
        for name in existing:
            if name == self._name:
                names[FIRST] = name
            elif name.endswith(suffix) and (found := ours.fullmatch(name.removesuffix(suffix))):
                names[int(found[1])] = name
        return names

    def in_use(self) -> int | None:
        """The copy that the workers use, None before there is any."""
        current = self.current()
        return next((copy for copy, name in self.copies().items() if name == current), None)

    def index_type(self, copy: int) -> str:
        """The index type of a copy, empty before it has one."""
        name, timeout_s = self.copies()[copy], self._settings.timeout_s
        with asking(self._doing("describe_index", name)):
            client = self._connected()
            if collection.VECTOR_FIELD not in client.list_indexes(name, timeout=timeout_s):
                return ""
            found = client.describe_index(name, collection.VECTOR_FIELD, timeout=timeout_s) or {}
        return str(found.get("index_type", ""))

    def switch(self, copy: int) -> None:
        """Let all workers use this copy: they notice within seconds, and move between two batches."""
        name = self.copies()[copy]
        with asking(self._doing("switch to", name)):
            alias.point(self._connected(), self._name, name, timeout_s=self._settings.timeout_s)
        if self.current() != name:
            raise IndexUnavailable(f"{self._doing('switch to', name)}: acknowledged, and another one is in use")

    def drop(self, copy: int) -> None:
        """Drop a copy; a worker that still uses it finds the one in use after the first failed call."""
        name = self.copies()[copy]
        with asking(self._doing("drop", name)):
            self._connected().drop_collection(name, timeout=self._settings.timeout_s)
