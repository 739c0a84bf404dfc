"""What `dejaview doctor` asks of Milvus. Nothing here creates or changes the deployment's own collection."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from schemas.events import EMBEDDING_SIZE, VerdictKind
from stream.errors import IndexUnavailable
from stream.neighbours.milvus import collection
from stream.neighbours.milvus.failures import asking
from stream.neighbours.milvus.index import MilvusIndex
from stream.neighbours.protocol import Link, Row
from stream.tenants import row_id

METRIC = collection.METRIC
CANARY_MODEL = "canary"
# A canary's name holds the time it was made: one that is this old was left by a doctor that was killed.
LEFT_OVER_AFTER_S = 600
_CANARY_TENANT = "doctor"
_CANARY_SHA256 = "0" * 64


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """The deployment's collection as Milvus describes it. `index_type` is empty before there is a vector index."""

    name: str
    description: str
    dimension: int
    metric: str
    index_type: str
    consistency: str
    loaded: bool


@dataclass(frozen=True, slots=True)
class Canary:
    """A row that was written and found, and when: by Milvus's clock, and by ours before and after."""

    acknowledged_ms: int
    asked_ms: int
    answered_ms: int
    took_s: float


class MilvusProbe(MilvusIndex):
    """An index that looks before anything is made. `links` needs a collection that exists and is loaded."""

    def server_version(self) -> str:
        """What Milvus calls itself.

        Raises:
            IndexUnavailable, NotPermitted.
        """
        with asking(self._doing("asking for the version")):
            client = self._connected()
            if self._settings.embedded:
                # It has no version to tell; that it answers is told by any call.
                client.list_collections(timeout=self._settings.timeout_s)
                return "Lite"
            return str(client.get_server_version(timeout=self._settings.timeout_s))

    def describe(self) -> CollectionFacts | None:
        """The deployment's collection, None when it is not there yet.

        Raises:
            IndexUnavailable, NotPermitted.
        """
        timeout_s = self._settings.timeout_s
        self.collection = self.current()
        with asking(self._doing("describe")):
            client = self._connected()
            if not client.has_collection(self.collection, timeout=timeout_s):
                return None
            found = client.describe_collection(self.collection, timeout=timeout_s)
            indexes = client.list_indexes(self.collection, timeout=timeout_s)
            index: dict[str, object] = {}
            if collection.VECTOR_FIELD in indexes:
                index = client.describe_index(self.collection, collection.VECTOR_FIELD, timeout=timeout_s) or {}
            state = client.get_load_state(self.collection, timeout=timeout_s)
        sizes = {field["name"]: field["params"].get("dim", 0) for field in found["fields"]}
        return CollectionFacts(
            name=self.collection,
            description=str(found.get("description", "")),
            dimension=int(sizes.get(collection.VECTOR_FIELD, 0)),
            metric=str(index.get("metric_type", "")),
            index_type=str(index.get("index_type", "")),
            consistency=str(found.get("consistency_level_name", "")),
            loaded=str(state.get("state")) == "Loaded",
        )

    def check(self) -> None:
        """Compare the whole collection, every field of it, with what this deployment would have created.

        Raises:
            WrongCollection: it differs; the message says in what.
            IndexUnavailable, NotPermitted.
        """
        with asking(self._doing("check")):
            collection.check(
                self._connected(), self.collection, self._settings, self._model_id, self._dimension,
                timeout_s=self._settings.timeout_s,
            )  # fmt: skip

    def drop_left_over(self, now_s: float) -> list[str]:
        """Drop the canaries of doctors that were killed; returns their names.

        Raises:
            IndexUnavailable, NotPermitted.
        """
        ours = re.compile(rf"{re.escape(self._settings.collection)}_doctor_([0-9a-f]{{8}})[0-9a-f]{{4}}_{CANARY_MODEL}")
        with asking(self._doing("list collections")):
            names = self._connected().list_collections(timeout=self._settings.timeout_s)
        left = [name for name in names if (found := ours.fullmatch(name)) and _is_old(found[1], now_s)]
        for name in left:
            self._drop(name)
        return left

    def canary(self) -> Canary:
        """Write a row and a link into a collection of their own, find both, and drop it.

        Raises:
            IndexUnavailable: also when what was acknowledged is not found.
            NotPermitted, SettingError, StageStopped: as `Index` does.
        """
        begun = time.monotonic()
        with self._canary_index() as index:
            # Whoever may not drop it would leave it behind.
            self._drop(index.collection)
            index.prepare()
            asked_ms = _now_ms()
            acknowledged = index.insert([_row()])
            answered_ms = _now_ms()
            (hits,) = index.search(_CANARY_TENANT, _row().embedding[None], acknowledged)
            if [hit.row_id for hit in hits] != [_row().row_id]:
                raise IndexUnavailable("a row was acknowledged by Milvus and is not found in it")
            link = Link(CANARY_MODEL, 0, 1, 0, 1, acknowledged)
            if link not in index.links(CANARY_MODEL, {0: 0}, index.append_links([link])):
                raise IndexUnavailable("a link was acknowledged by Milvus and is not found in it")
        # Above the low 18 bits, a logical counter, a timestamp holds milliseconds.
        return Canary(acknowledged >> 18, asked_ms, answered_ms, time.monotonic() - begun)

    @contextmanager
    def _canary_index(self) -> Iterator[MilvusIndex]:
        tag = f"{int(time.time()):08x}{secrets.token_hex(2)}"
        settings = self._settings.model_copy(update={"collection": f"{self._settings.collection}_doctor_{tag}"})
        index = MilvusProbe(settings, CANARY_MODEL)
        # Milvus Lite takes one connection.
        index._client = self._connected()
        try:
            yield index
        finally:
            self._drop(index.collection)

    def _drop(self, name: str) -> None:
        with asking(f"drop collection {name}"):
            self._connected().drop_collection(name, timeout=self._settings.timeout_s)


def _row() -> Row:
    embedding = np.zeros(EMBEDDING_SIZE, dtype=np.float32)
    embedding[0] = 1.0
    return Row(
        row_id=row_id(_CANARY_TENANT, _CANARY_SHA256),
        tenant=_CANARY_TENANT,
        upload_id="canary",
        sha256=_CANARY_SHA256,
        pdq=_CANARY_SHA256,
        pdq_quality=0,
        bias=0.0,
        verdict=VerdictKind.UNIQUE,
        ledger_partition=0,
        ledger_offset=0,
        entry="{}",
        embedding=embedding,
    )


def _is_old(hex_seconds: str, now_s: float) -> bool:
    return now_s - int(hex_seconds, 16) > LEFT_OVER_AFTER_S


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
