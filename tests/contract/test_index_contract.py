"""Promise: every index (memory, Milvus Lite, Milvus with HNSW and with FLAT) finds each row under its own
tenant as soon as the guarantee says so, shows no tenant another's, and keeps links apart from rows.

Breaks that these tests catch, each tried: `upsert_rows` for `insert_rows` (on 2.3.5); the consistency
"Bounded" for "Customized"; a search without its tenant filter; a query without its limit; no tie rule;
`check` not called by `prepare`; the limit without its slack for repeats.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream.config import IndexSettings
from stream.errors import WrongCollection
from stream.neighbours.memory import MemoryIndex
from stream.neighbours.milvus import MilvusIndex, collection
from stream.neighbours.protocol import STRONG, Index, Link
from stream.progress import chain_end, needless
from tests.contract.index_cases import DIMENSION, MODEL, at_cosine, make_link, make_row, unit
from tests.support.deployment import until

KINDS = ["memory", "lite", "milvus-hnsw", "milvus-flat"]
TENANTS = ["acme", "globex", "initech", "a", "A.b_c-d"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("milvus_lite", exc_type=ImportError)
    return tmp_path_factory.mktemp("lite") / "index.db"


def settings_of(kind: str, request: pytest.FixtureRequest, **changes: object) -> IndexSettings:
    values: dict[str, object] = {"collection": f"contract_{next(_numbers)}", "neighbours_max": 5, "timeout_s": 20}
    if kind == "lite":
        values |= {"uri": str(request.getfixturevalue("lite_file")), "index_type": "FLAT"}
    else:
        index_type = "FLAT" if kind == "milvus-flat" else "HNSW"
        values |= {"uri": request.getfixturevalue("milvus_uri"), "index_type": index_type}
    return IndexSettings.model_validate(values | changes)


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    """A prepared, empty index of every kind."""
    if request.param == "memory":
        yield MemoryIndex(neighbours_max=5, dimension=DIMENSION)
        return
    with opened(settings_of(request.param, request)) as made:
        yield made


@pytest.fixture(params=["lite", "milvus-hnsw"])
def real_settings(request: pytest.FixtureRequest) -> Iterator[IndexSettings]:
    """Settings of an index that is not prepared yet."""
    settings = settings_of(request.param, request)
    with opened(settings, prepare=False):
        yield settings


@contextmanager
def opened(settings: IndexSettings, *, prepare: bool = True) -> Iterator[MilvusIndex]:
    """A Milvus index whose collection is dropped afterwards."""
    index = milvus(settings)
    if prepare:
        index.prepare()
    yield index
    index._connected().drop_collection(index.collection, timeout=20)
    index.close()


def milvus(settings: IndexSettings, model_id: str = MODEL, dimension: int = DIMENSION) -> MilvusIndex:
    return MilvusIndex(settings, model_id, dimension)


def test_every_row_is_found_under_its_own_tenant(index: Index) -> None:
    """60 rows of five tenants: an upsert under a partition key loses most of them (facts)."""
    rows = [make_row(number, TENANTS[number % len(TENANTS)]) for number in range(60)]
    guarantee = index.insert(rows)
    for tenant in TENANTS:
        own = [row for row in rows if row.tenant == tenant]
        answers = index.search(tenant, np.stack([row.embedding for row in own]), guarantee)
        assert [answer[0].row_id for answer in answers] == [row.row_id for row in own]
        assert {hit.tenant for answer in answers for hit in answer} == {tenant}
        assert all(answer[0].similarity == pytest.approx(1, abs=1e-5) for answer in answers)


def test_a_tenant_never_sees_anothers_rows(index: Index) -> None:
    same = unit(1)
    guarantee = index.insert([make_row(number, "globex", embedding=same) for number in range(30)])
    guarantee = max(guarantee, index.insert([make_row(99, "acme", embedding=unit(2))]))
    assert [hit.tenant for hit in index.search("acme", same[None], guarantee)[0]] == ["acme"]
    assert index.search("initech", same[None], guarantee) == [[]]


def test_an_empty_index_gives_empty_answers(index: Index) -> None:
    assert index.search("acme", np.stack([unit(1), unit(2)]), STRONG) == [[], []]
    assert index.search("acme", np.empty((0, DIMENSION), np.float32), STRONG) == []
    assert index.get([make_row(1).row_id], STRONG) == {}
    assert index.get([], STRONG) == {}
    assert index.links(None, None, STRONG) == []
    assert index.links(None, None, None, bounded=True) == []
    index.delete_links([])


def test_a_hit_holds_what_the_row_held(index: Index) -> None:
    row = make_row(7)
    guarantee = index.insert([row])
    (hit,) = index.search("acme", at_cosine(row.embedding, 0.8)[None], guarantee)[0]
    assert hit.similarity == pytest.approx(0.8, abs=1e-4)
    for name in ("row_id", "tenant", "upload_id", "sha256", "pdq", "pdq_quality", "bias", "verdict", "ledger_offset"):
        assert getattr(hit, name) == getattr(row, name), name


def test_rows_are_found_by_id_with_their_entry(index: Index) -> None:
    rows = [make_row(number, TENANTS[number % 5]) for number in range(20)]
    guarantee = index.insert(rows)
    absent = make_row(99).row_id
    found = index.get([*(row.row_id for row in rows), rows[0].row_id, absent], guarantee)
    assert {row_id: one.entry for row_id, one in found.items()} == {row.row_id: row.entry for row in rows}
    assert all(one.hit.row_id == row_id and one.hit.similarity == 1 for row_id, one in found.items())


def test_rows_and_links_are_looked_up_together(index: Index) -> None:
    """More than a request takes; a link counts only as it was written. Break: compare links by their ids alone."""
    rows = [make_row(number, TENANTS[number % 5]) for number in range(130)]
    index.insert(rows)
    links = [make_link(start, start + 1, at=2**60 + start) for start in range(3)]
    guarantee = index.append_links(links)
    row_ids = [row.row_id for row in rows]
    found, there = index.look_up(row_ids, [*links, make_link(3, 4), replace(links[0], timestamp=2**60 + 9)], guarantee)
    assert found.keys() == set(row_ids)
    assert there == set(links)
    # As DECIDE asks: links come after the rows whose acknowledgement it guarantees, and show a moment later.
    acknowledged = index.insert([make_row(500)])
    late = make_link(3, 4, at=acknowledged)
    index.append_links([late])
    until(lambda: index.look_up([make_row(500).row_id], [late], acknowledged)[1] == {late}, 30)
    index.delete_links([links[1], late])
    assert index.look_up((), links, STRONG) == ({}, {links[0], links[2]})
    assert index.look_up((), (), STRONG) == ({}, set())


def test_a_large_entry_comes_back_whole(index: Index) -> None:
    row = replace(make_row(1), entry="é" * 32_767)
    guarantee = index.insert([row])
    assert index.get([row.row_id], guarantee)[row.row_id].entry == row.entry
    with pytest.raises(ValueError, match="entry"):
        index.insert([replace(row, entry="é" * 32_768)])


def test_a_row_inserted_again_is_one_hit_and_hides_no_other(index: Index) -> None:
    """2.3.5 drops other rows from an unlimited query when ids repeat (measured)."""
    rows = [make_row(number) for number in range(8)]
    for _ in range(3):
        guarantee = index.insert(rows)
    answers = index.search("acme", np.stack([row.embedding for row in rows]), guarantee)
    for row, answer in zip(rows, answers, strict=True):
        ids = [hit.row_id for hit in answer]
        assert ids[0] == row.row_id
        assert len(ids) == len(set(ids))
        assert len(ids) >= 3
    assert len(index.get([row.row_id for row in rows], guarantee)) == 8


def test_hits_come_most_similar_first_and_equals_by_ledger_offset(index: Index) -> None:
    query = unit(1)
    twin = at_cosine(query, 0.7)
    rows = [
        make_row(1, embedding=at_cosine(query, 0.5), offset=1),
        make_row(2, embedding=twin, offset=30),
        make_row(3, embedding=at_cosine(query, 0.9), offset=40),
        make_row(4, embedding=twin, offset=10),
        make_row(5, embedding=twin, offset=20),
        make_row(6, embedding=at_cosine(query, 0.3), offset=0),
    ]
    guarantee = index.insert(rows)
    answer = index.search("acme", query[None], guarantee)[0]
    assert [hit.ledger_offset for hit in answer] == [40, 10, 20, 30, 1]


def test_more_queries_than_one_request_takes(index: Index) -> None:
    rows = [make_row(number) for number in range(600)]
    guarantee = index.insert(rows)
    answers = index.search("acme", np.stack([row.embedding for row in rows]), guarantee)
    assert [answer[0].row_id for answer in answers] == [row.row_id for row in rows]
    assert len(index.get([row.row_id for row in rows], guarantee)) == 600


def test_a_search_with_the_guarantee_sees_the_rows_just_inserted(index: Index) -> None:
    """Many rounds: a search at `Bounded` misses them all (facts)."""
    for round_number in range(25):
        rows = [make_row(1_000 + round_number * 8 + n, TENANTS[n % 3]) for n in range(8)]
        guarantee = index.insert(rows)
        assert len(index.get([row.row_id for row in rows], guarantee)) == len(rows)
        answer = index.search(rows[0].tenant, rows[0].embedding[None], guarantee)[0]
        assert answer[0].row_id == rows[0].row_id


def test_timestamps_never_fall(index: Index) -> None:
    stamps = [index.insert([make_row(number)]) for number in range(5)]
    stamps.append(index.append_links([make_link(0, 5, at=stamps[-1])]))
    assert stamps == sorted(stamps)
    assert stamps[0] >= 2**18


@pytest.mark.parametrize("guarantee", [0, 1, 2**18 - 1, -1])
def test_a_guarantee_that_is_no_timestamp_is_refused(guarantee: int) -> None:
    """Milvus would read 0 and 1 as consistency levels and answer without the rows."""
    milvus_index = milvus(IndexSettings(uri="http://127.0.0.1:1"))
    for index in (milvus_index, MemoryIndex(dimension=DIMENSION)):
        with pytest.raises(ValueError, match="timestamp"):
            index.search("acme", unit(1)[None], guarantee)
        with pytest.raises(ValueError, match="timestamp"):
            index.get([make_row(1).row_id], guarantee)
        with pytest.raises(ValueError, match="timestamp"):
            index.links(None, None, guarantee)


def test_what_cannot_be_a_row_or_query_is_refused(index: Index) -> None:
    row = make_row(1)
    for bad in (
        replace(row, tenant="_links"),
        replace(row, row_id="x"),
        replace(row, embedding=unit(1, 16)),
        replace(row, embedding=np.zeros(DIMENSION, np.float32)),
        replace(row, embedding=np.full(DIMENSION, np.nan, np.float32)),
    ):
        with pytest.raises(ValueError, match=r"tenant|row id|shape|cosine"):
            index.insert([row, bad])
    with pytest.raises(ValueError, match="one row"):
        index.insert([])
    with pytest.raises(ValueError, match="tenant"):
        index.search("_links", unit(1)[None], STRONG)
    with pytest.raises(ValueError, match="shape"):
        index.search("acme", unit(1, 16)[None], STRONG)
    assert index.count_rows() == 0


def test_links_come_back_and_make_a_chain(index: Index) -> None:
    links = [make_link(start, start + 10, at=2**60 + start) for start in range(0, 1_200, 10)]
    other = make_link(0, 10, partition=1)
    foreign = make_link(0, 10, topic="another")
    guarantee = index.append_links([*links, other, foreign])
    own = index.links(links[0].ledger_topic_id, {0: 0}, guarantee)
    assert own == links
    assert index.links(None, {0: 0}, guarantee) == [*links, foreign]
    assert index.links(None, None, STRONG) == [*links, other, foreign]
    topic = links[0].ledger_topic_id
    assert index.links(topic, {0: 1_185, 1: 0}, guarantee) == [links[-1], other]
    assert index.links(topic, {1: 1, 5: 0}, guarantee) == []
    end = chain_end(own)
    assert end is not None
    assert (end.offset, end.timestamp) == (1_200, links[-1].timestamp)

    index.delete_links(needless(own))
    kept = index.links(links[0].ledger_topic_id, {0: 0}, STRONG)
    assert kept == links[19:]
    shortened = chain_end(kept)
    assert shortened is not None
    assert (shortened.offset, shortened.timestamp) == (end.offset, end.timestamp)


def test_a_link_is_never_overwritten_and_comes_back_after_deletion(index: Index) -> None:
    link = make_link(0, 10)
    longer = Link(link.ledger_topic_id, 0, 12, 0, 20, link.timestamp)
    for one in (link, longer, link):
        guarantee = index.append_links([one])
    assert index.links(None, None, guarantee) == [link, longer]
    index.delete_links([link])
    assert index.links(None, None, STRONG) == [longer]
    guarantee = index.append_links([link])
    assert index.links(None, None, guarantee) == [link, longer]


def test_links_are_no_rows(index: Index) -> None:
    row = make_row(1)
    index.insert([row])
    for start in range(10):
        guarantee = index.append_links([make_link(start, start + 1)])
    query = np.zeros((1, DIMENSION), np.float32)
    query[0, 0] = 1  # a link's own vector
    assert [hit.row_id for hit in index.search("acme", query, guarantee)[0]] == [row.row_id]
    assert index.get([row.row_id], guarantee).keys() == {row.row_id}
    assert index.count_rows() <= 1


def test_calls_from_several_threads(index: Index) -> None:
    rows = [make_row(number, TENANTS[number % 5]) for number in range(80)]
    failures: list[BaseException] = []

    def work(part: int) -> None:
        try:
            for row in rows[part::4]:
                guarantee = index.insert([row])
                assert index.search(row.tenant, row.embedding[None], guarantee)[0][0].row_id == row.row_id
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_prepare_twice_and_by_two_workers_at_once_keeps_the_rows(real_settings: IndexSettings) -> None:
    workers = [milvus(real_settings) for _ in range(3)]
    failures: list[BaseException] = []

    def work(worker: Index) -> None:
        try:
            worker.prepare()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    row = make_row(1)
    guarantee = workers[0].insert([row])
    workers[1].prepare()
    assert workers[2].search("acme", row.embedding[None], guarantee)[0][0].row_id == row.row_id
    for worker in workers:
        worker.close()


def test_a_collection_of_another_dimension_model_metric_or_index_is_refused(real_settings: IndexSettings) -> None:
    milvus(real_settings).prepare()
    with pytest.raises(WrongCollection, match="embedding"):
        milvus(real_settings, dimension=16).prepare()
    # Another model whose name is written the same in the collection's name.
    with pytest.raises(WrongCollection, match="model="):
        milvus(real_settings, model_id=MODEL.replace("-", ".")).prepare()
    with pytest.raises(WrongCollection, match="index_type"):
        milvus(real_settings.model_copy(update={"index_type": "IVF_FLAT"})).prepare()


def test_a_collection_with_another_metric_is_refused(
    real_settings: IndexSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(collection, "METRIC", "L2")
        milvus(real_settings).prepare()
    with pytest.raises(WrongCollection, match="metric"):
        milvus(real_settings).prepare()


def test_a_collection_whose_rows_expire_is_refused(request: pytest.FixtureRequest) -> None:
    with opened(settings_of("milvus-hnsw", request)) as index:
        index._connected().alter_collection_properties(index.collection, {"collection.ttl.seconds": 3_600}, timeout=20)
        with pytest.raises(WrongCollection, match="expired"):
            index.prepare()


def test_a_closed_index_opens_again(real_settings: IndexSettings) -> None:
    index = milvus(real_settings)
    index.prepare()
    guarantee = index.insert([make_row(1)])
    index.close()
    index.close()
    assert len(index.get([make_row(1).row_id], guarantee)) == 1
    index.close()


def test_an_index_without_an_index_settles(request: pytest.FixtureRequest) -> None:
    """FLAT has nothing to search by. Break: wait for it all the same."""
    with opened(settings_of("milvus-flat", request)) as index:
        index.insert([make_row(number) for number in range(3_000)])
        index.settle(60)


def test_settled_is_searched_by_the_index(request: pytest.FixtureRequest) -> None:
    """Milvus has indexed rows seconds to minutes before it searches them so. Break: `settle` without `_unserved`."""
    with opened(settings_of("milvus-hnsw", request)) as index:
        assert isinstance(index, MilvusIndex)
        index.insert([make_row(number) for number in range(3_000)])
        index.settle(120)
        loaded = index._connected().list_loaded_segments(index.collection)
        assert sum(segment.num_rows for segment in loaded if segment.index_id) >= 3_000
