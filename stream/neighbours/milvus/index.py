"""The index in Milvus (a server, or Milvus Lite in a file).

Rows and links lie in one collection, links under a reserved tenant. Writes are inserts, never
upserts: under a partition key some servers lose upserted rows. Every call names its consistency and
its timeout; what pymilvus retries by itself stays within about two of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from pymilvus import MilvusClient
from pymilvus.client.types import SegmentState

from schemas.events import EMBEDDING_SIZE, Vector
from stream.config import IndexSettings
from stream.errors import IndexUnavailable, SettingError, WrongCollection
from stream.neighbours import filters
from stream.neighbours.milvus import alias, collection, lite
from stream.neighbours.milvus.answers import hits_by_query
from stream.neighbours.milvus.failures import asking
from stream.neighbours.protocol import STRONG, TIMESTAMP_MIN, Found, Hit, Link, Row
from stream.neighbours.rows import (
    HIT_FIELDS,
    best_hits,
    check_appended,
    check_guarantee,
    check_rows,
    check_vectors,
    chunks,
    found_of_record,
    in_order,
    link_of_record,
    record_of_link,
    record_of_row,
    row_chunks,
)
from stream.secrets import read_secret, read_secret_file
from stream.uris import without_user_info

QUERIES_PER_REQUEST_MAX = 256
IDS_PER_REQUEST_MAX = 128
INSERT_BYTES_MAX = 8_000_000  # far below the 64 MB that servers take

# The most a server allows, and always said: without a limit, 2.3.5 answers a query over repeated ids
# with as many rows as there are different ids, repeats included, and drops the rest (measured). With
# it, 128 ids may be repeated 128 times each.
QUERY_ROWS_MAX = 16_384

SETTLE_WAIT_S = 0.5
# Milvus indexes no smaller segment: its `minSegmentNumRowsToEnableIndex`, unless a server sets another.
INDEXED_ROWS_MIN = 1_024

# A crash inserts rows again, and Milvus drops repeats only after it has counted them.
_REPEATS = 2

# pymilvus logs every failed call with its traceback; ours are raised, and logged once, by the stage.
for _name in ("pymilvus", "pymilvus.milvus_client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class MilvusIndex:
    """An `Index` in Milvus. Connects at the first call, and again by itself."""

    def __init__(self, settings: IndexSettings, model_id: str, dimension: int = EMBEDDING_SIZE) -> None:
        self._name = collection.collection_name(settings, model_id)
        self.collection = self._name
        self._settings = settings
        self._model_id = model_id
        self._dimension = dimension
        self._limit = settings.neighbours_max * _REPEATS
        self._search_params = collection.search_params(settings, self._limit)
        self._client: MilvusClient | None = None
        self._lock = Lock()

    def prepare(self) -> None:
        found = self.current()
        wanted = (found, self._settings)
        model = (self._model_id, self._dimension)
        timeout_s = self._settings.timeout_s
        with asking(self._doing("prepare", found)):
            client = self._connected()
            collection.create(client, *wanted, *model, timeout_s=timeout_s)
            collection.create_vector_index(client, *wanted, timeout_s=timeout_s)
            collection.check(client, *wanted, *model, timeout_s=timeout_s)
            client.load_collection(found, timeout=timeout_s)
        # Last: calls go there once all of it is there.
        self.collection = found

    def current(self) -> str:
        if self._settings.embedded:
            return self._name
        with asking(self._doing("asking for the collection in use")):
            return alias.collection_behind(self._connected(), self._name, timeout_s=self._settings.timeout_s)

    def search(self, tenant: str, vectors: Vector, guarantee: int | None) -> list[list[Hit]]:
        rows_of_tenant = filters.tenant_rows(tenant)
        check_guarantee(guarantee)
        check_vectors(vectors, self._dimension)
        found: list[list[Hit]] = []
        for part in chunks(list(np.ascontiguousarray(vectors, dtype=np.float32)), QUERIES_PER_REQUEST_MAX):
            with asking(self._doing("search")):
                answer = self._connected().search(
                    self.collection,
                    data=list(part),
                    anns_field=collection.VECTOR_FIELD,
                    filter=rows_of_tenant,
                    limit=self._limit,
                    output_fields=list(HIT_FIELDS),
                    search_params=self._search_params,
                    **self._call(guarantee),
                )
            found.extend(self._hits(tenant, answer, len(part)))
        return found

    def get(self, row_ids: Sequence[str], guarantee: int | None) -> dict[str, Found]:
        return self.look_up(row_ids, (), guarantee)[0]

    def look_up(
        self, row_ids: Collection[str], links: Collection[Link], guarantee: int | None
    ) -> tuple[dict[str, Found], set[Link]]:
        check_guarantee(guarantee)
        rows: dict[str, Found] = {}
        there: set[Link] = set()
        wanted: list[str | Link] = [*row_ids, *links]
        for part in chunks(wanted, IDS_PER_REQUEST_MAX):
            for record in self._query(filters.ids(part), [*HIT_FIELDS, "entry"], self._call(guarantee)):
                if record["tenant"] == filters.LINKS_TENANT:
                    there.add(self._link(record))
                else:
                    rows.setdefault(record["row_id"], found_of_record(record))
        return rows, there.intersection(links)

    def insert(self, rows: Sequence[Row]) -> int:
        check_rows(rows, self._dimension)
        parts = row_chunks(rows, INSERT_BYTES_MAX)
        return max(self._insert([record_of_row(row) for row in part]) for part in parts)

    def append_links(self, links: Sequence[Link]) -> int:
        check_appended(links)
        return self._insert([record_of_link(link, self._dimension) for link in links])

    def links(
        self,
        ledger_topic_id: str | None,
        since: Mapping[int, int] | None,
        guarantee: int | None,
        *,
        bounded: bool = False,
    ) -> list[Link]:
        wanted = filters.links_of(ledger_topic_id, since)
        if not bounded:
            check_guarantee(guarantee)
        return in_order(
            self._link(record) for record in self._query(wanted, ["entry"], self._call(guarantee, bounded=bounded))
        )

    def delete_links(self, links: Sequence[Link]) -> None:
        for part in chunks(links, IDS_PER_REQUEST_MAX):
            wanted = filters.ids(part)
            with asking(self._doing("delete_links")):
                self._connected().delete(self.collection, filter=wanted, timeout=self._settings.timeout_s)

    def count_rows(self) -> int:
        with asking(self._doing("count_rows")):
            records = self._connected().query(
                self.collection, filter=filters.all_rows(), output_fields=["count(*)"], **self._call(None, bounded=True)
            )
        return int(records[0]["count(*)"])

    def settle(self, timeout_s: float) -> None:
        """Seal what was written, and wait until it is indexed and searched by that index. A server only.

        Until then it is searched row by row, or by the index of a segment that was compacted since.

        Raises:
            IndexUnavailable: no answer, or not in time.
        """
        deadline = time.monotonic() + timeout_s
        with asking(self._doing("flush")):
            self._connected().flush(self.collection, timeout=timeout_s)
        while left := self._unindexed() or self._unserved():
            if time.monotonic() > deadline:
                raise IndexUnavailable(
                    f"{self._doing('settle')}: {left} rows not indexed, or not searched by it, in {timeout_s:g} s"
                )
            time.sleep(SETTLE_WAIT_S)

    def _unindexed(self) -> int:
        with asking(self._doing("describe_index")):
            found = self._connected().describe_index(
                self.collection, collection.VECTOR_FIELD, timeout=self._settings.timeout_s
            )
        return int(found["pending_index_rows"])

    def _unserved(self) -> int:
        """Rows of sealed segments that are not known to be searched by an index yet."""
        if self._settings.index_type == "FLAT":
            # There is none to search by.
            return 0
        where = {"collection_name": self.collection, "timeout": self._settings.timeout_s}
        with asking(self._doing("list segments")):
            sealed = self._connected().list_persistent_segments(**where)
            served = {one.segment_id for one in self._connected().list_loaded_segments(**where) if one.index_id}
        return sum(
            one.num_rows
            for one in sealed
            if one.state == SegmentState.Flushed and one.num_rows >= INDEXED_ROWS_MIN and one.segment_id not in served
        )

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is None:
            return
        client.close()
        if self._settings.embedded:
            lite.release(self._settings.uri)

    def _connected(self) -> MilvusClient:
        """The client; connecting is one round trip."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> MilvusClient:
        settings = self._settings
        options: dict[str, Any] = {}
        if settings.server_pem is not None:
            # Here, because pymilvus takes a file that is not there for a server that is away.
            read_secret_file(settings.server_pem, "index.server_pem")
            options = {"secure": True, "server_pem_path": str(settings.server_pem)}
        if settings.embedded:
            lite.load()
        token = read_secret(settings.token, settings.token_file, "index.token_file")
        try:
            return MilvusClient(settings.uri, token=token, timeout=settings.timeout_s, dedicated=True, **options)
        except RuntimeError as error:  # Milvus Lite, of the file's name
            raise SettingError(without_user_info(f"index.uri {settings.uri}: {error}")) from error

    def _call(self, guarantee: int | None, *, bounded: bool = False) -> dict[str, Any]:
        """The timeout and the consistency of a read. Milvus Lite sees everything, and knows no timestamps."""
        timeout = {"timeout": self._settings.timeout_s}
        if bounded:
            return timeout | {"consistency_level": "Bounded"}
        if guarantee is STRONG or self._settings.embedded:
            return timeout | {"consistency_level": "Strong"}
        return timeout | {"consistency_level": "Customized", "guarantee_timestamp": guarantee}

    def _query(self, wanted: str, fields: list[str], call: dict[str, Any]) -> list[dict[str, Any]]:
        with asking(self._doing("query")):
            records = list(
                self._connected().query(
                    self.collection, filter=wanted, output_fields=fields, limit=QUERY_ROWS_MAX, **call
                )
            )
        if len(records) >= QUERY_ROWS_MAX:
            raise IndexUnavailable(f"{self._doing('query')}: {QUERY_ROWS_MAX} rows or more, the answer may be cut")
        return records

    def _insert(self, records: list[dict[str, Any]]) -> int:
        """Insert records and return the acknowledgement's timestamp.

        MilvusClient.insert drops that timestamp, its handler's insert_rows returns it; what it does is
        done here. The contract tests hold this against the installed pymilvus.
        """
        with asking(self._doing("insert")):
            client = self._connected()
            handler, context = client._get_connection(), client._generate_call_context()  # noqa: SLF001
            result = handler.insert_rows(self.collection, records, timeout=self._settings.timeout_s, context=context)
        if result.insert_count != len(records):
            raise IndexUnavailable(f"{self._doing('insert')}: {result.insert_count} of {len(records)} rows taken")
        timestamp = lite.clock_timestamp() if self._settings.embedded else int(result.timestamp)
        if timestamp < TIMESTAMP_MIN:
            raise IndexUnavailable(f"{self._doing('insert')}: acknowledged without a timestamp ({timestamp})")
        return timestamp

    def _link(self, record: dict[str, Any]) -> Link:
        try:
            return link_of_record(record)
        except ValueError as error:
            raise WrongCollection(f"{self._doing('links')}: {error}; another release may have written it") from error

    def _hits(self, tenant: str, answer: Any, queries: int) -> list[list[Hit]]:
        try:
            found = hits_by_query(answer)
        except ValueError as error:
            raise IndexUnavailable(f"{self._doing('search')}: {error}") from error
        if len(found) != queries:
            raise IndexUnavailable(f"{self._doing('search')}: {len(found)} answers to {queries} queries")
        if any(hit.tenant != tenant for hits in found for hit in hits):
            raise IndexUnavailable(f"{self._doing('search')}: answered with rows of another tenant than {tenant}")
        return [best_hits(hits, self._settings.neighbours_max) for hits in found]

    def _doing(self, what: str, name: str = "") -> str:
        return f"{what} in collection {name or self.collection} at {without_user_info(self._settings.uri)}"
