"""Promise: a Milvus that is stopped, hung, restarted, or has lost or released the collection gives
IndexUnavailable within the timeout, never an empty answer, and works again by itself when it is back.

Breaks, each tried and each caught: reads and inserts without `timeout` (a call took 62 s in place of 5); a search that
turns failures into empty lists; a client that keeps its first failure to connect for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from stream.config import IndexSettings
from stream.errors import IndexUnavailable
from stream.neighbours.milvus import MilvusIndex
from stream.neighbours.protocol import STRONG, Row
from tests.contract.index_cases import DIMENSION, MODEL, make_link, make_row

TIMEOUT_S = 2.0
BACK_WITHIN_S = 90.0
PAUSE_S = 0.1


class Server(Protocol):
    """A Milvus of this module's own."""

    uri: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def suspend(self) -> None: ...
    def resume(self) -> None: ...


@pytest.fixture
def index(milvus_server: Server, request: pytest.FixtureRequest) -> Iterator[MilvusIndex]:
    settings = IndexSettings(
        uri=milvus_server.uri,
        collection=request.node.name,
        timeout_s=TIMEOUT_S,
    )
    made = MilvusIndex(settings, MODEL, DIMENSION)
    until_it_works(made.prepare)
    yield made
    made.close()


def until_it_works(call: Callable[[], Any]) -> Any:
    """What a stage does: ask again while the index is unavailable."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            return call()
        except IndexUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def calls(index: MilvusIndex, row: Row) -> list[Callable[[], object]]:
    return [
        lambda: index.search(row.tenant, row.embedding[None], STRONG),
        lambda: index.get([row.row_id], STRONG),
        lambda: index.links(None, None, STRONG),
        lambda: index.links(None, None, None, bounded=True),
        lambda: index.append_links([make_link(10, 20)]),
        lambda: index.insert([row]),
        lambda: index.delete_links([make_link(10, 20)]),
        index.count_rows,
    ]


def filled(index: MilvusIndex) -> list[Row]:
    rows = [make_row(number, "acme" if number % 2 else "globex") for number in range(20)]
    guarantee = until_it_works(lambda: index.insert(rows))
    until_it_works(lambda: index.append_links([make_link(0, 20, at=guarantee)]))
    assert found(index, rows)
    return rows


def found(index: MilvusIndex, rows: list[Row]) -> bool:
    def whole() -> bool:
        answers = [index.search(row.tenant, row.embedding[None], STRONG)[0] for row in rows]
        links = index.links(None, None, STRONG)
        return all(answer[0].row_id == row.row_id for answer, row in zip(answers, rows, strict=True)) and any(
            (link.start, link.end) == (0, 20) for link in links
        )

    return bool(until_it_works(whole))


def test_a_dropped_collection_is_unavailable_by_name(index: MilvusIndex) -> None:
    row = filled(index)[1]
    index._connected().drop_collection(index.collection, timeout=20)
    for call in calls(index, row):
        with pytest.raises(IndexUnavailable, match=index.collection):
            call()
    until_it_works(index.prepare)
    assert index.search(row.tenant, row.embedding[None], STRONG) == [[]]
    assert index.links(None, None, STRONG) == []


def test_a_released_collection_is_unavailable_until_prepared(index: MilvusIndex) -> None:
    rows = filled(index)
    index._connected().release_collection(index.collection, timeout=20)
    with pytest.raises(IndexUnavailable, match=index.collection):
        index.search("acme", rows[1].embedding[None], STRONG)
    with pytest.raises(IndexUnavailable, match=index.collection):
        index.links(None, None, STRONG)
    until_it_works(index.prepare)
    assert found(index, rows)


def test_a_hung_server_is_unavailable_within_the_timeout(index: MilvusIndex, milvus_server: Server) -> None:
    rows = filled(index)
    milvus_server.suspend()
    try:
        for call in calls(index, rows[1])[:5]:  # a server that hangs for longer than its session ends itself
            fails_in_time(call)
    finally:
        milvus_server.resume()
    assert found(index, rows)


def test_a_server_that_restarts_is_unavailable_and_then_works_again(index: MilvusIndex, milvus_server: Server) -> None:
    rows = filled(index)
    late = MilvusIndex(index._settings, MODEL, DIMENSION)
    milvus_server.stop()
    try:
        for call in (*calls(index, rows[1]), late.prepare):
            fails_in_time(call)
    finally:
        milvus_server.start()
    assert found(index, rows)
    until_it_works(late.prepare)
    more = make_row(77)
    guarantee = until_it_works(lambda: late.insert([more]))
    assert index.search(more.tenant, more.embedding[None], guarantee)[0][0].row_id == more.row_id
    late.close()


def fails_in_time(call: Callable[[], object]) -> None:
    begin = time.monotonic()
    with pytest.raises(IndexUnavailable):
        call()
    assert time.monotonic() - begin < 2 * TIMEOUT_S + 1
