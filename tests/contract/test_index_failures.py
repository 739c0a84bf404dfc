"""Promise: every way in which pymilvus and gRPC can fail has a meaning of ours, none of them an empty
answer; one that a new release adds fails this test instead of reaching production.

Breaks that these tests catch, each tried: a line (one of each table was tried) taken out of `BY_CLASS`,
`BY_STATUS` or `BY_CODE`;
`asking` without grpc.RpcError; the check of the number of answers, of hits, or of their tenant, removed; hits not
joined by row id; `asking` without grpc.FutureCancelledError.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pymilvus
import pytest
from pymilvus import exceptions
from pymilvus.grpc_gen.schema_pb2 import SearchResultData

from stream.config import IndexSettings
from stream.errors import DejaviewError, IndexUnavailable, NotPermitted, SettingError, StageStopped
from stream.neighbours.milvus import MilvusIndex, failures
from stream.neighbours.milvus.answers import Answer
from stream.neighbours.milvus.failures import asking, translate
from stream.neighbours.protocol import Row
from stream.neighbours.rows import HIT_FIELDS, hit_of_row, record_of_row
from tests.contract.index_cases import DIMENSION, MODEL, make_link, make_row, unit

CLASSES = [
    one for _, one in inspect.getmembers(exceptions, inspect.isclass) if issubclass(one, exceptions.MilvusException)
]

# Modules that need packages which dejaview does not install, so it cannot call them either.
NOT_IMPORTABLE = {"pymilvus._version", "pymilvus.bulk_writer"}
# Exceptions of gRPC that no client of ours can meet, by where they come from.
NOT_OURS = {
    # servers, and calls that were abandoned on purpose: `grpc.framework` is the interface before 1.0
    "grpc.framework.",
    # asyncio; MilvusIndex uses the blocking client. `grpc.experimental.UsageError` and others are these, renamed
    "grpc._cython.cygrpc",
    # a warning
    "grpc.experimental",
}


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """Every module of a package that can be imported here."""
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _name: None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield importlib.import_module(found.name)
        except ModuleNotFoundError:
            assert found.name in NOT_IMPORTABLE, found.name


def failures_in(package: ModuleType) -> set[type[BaseException]]:
    """The exception classes that a package's modules define, warnings left out."""
    return {
        one
        for module in modules(package)
        for one in vars(module).values()
        if inspect.isclass(one)
        and issubclass(one, BaseException)
        and not issubclass(one, Warning)
        and one.__module__.startswith(package.__name__)
    }


class Rpc(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__()
        self.status = status

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return "said the server"


def test_every_exception_of_pymilvus_has_a_meaning() -> None:
    assert len(CLASSES) > 20
    assert set(CLASSES) == set(failures.BY_CLASS)


def test_every_exception_class_of_that_module_is_a_milvus_exception_or_known() -> None:
    """A new root beside MilvusException would pass `asking` untranslated."""
    roots = {
        name
        for name, one in inspect.getmembers(exceptions, inspect.isclass)
        if one.__module__ == exceptions.__name__ and not issubclass(one, exceptions.MilvusException)
    }
    assert roots == {"ErrorCode", "ExceptionsMessage"}


def test_no_module_of_pymilvus_has_an_exception_beside_these() -> None:
    """All of its modules are walked, not `pymilvus.exceptions` alone."""
    found = failures_in(pymilvus)
    assert len(found) > 20
    assert found == set(CLASSES)


def test_every_exception_of_grpc_is_caught_or_cannot_reach_us() -> None:
    """All modules of grpc are walked; what is caught becomes ours, whatever attributes it lacks."""
    found = {one for one in failures_in(grpc) if not one.__module__.startswith(tuple(NOT_OURS))}
    assert {grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError} < found
    assert all(issubclass(one, failures.FAILURES) for one in found), found
    for bare in (grpc.RpcError(), grpc.FutureTimeoutError(), grpc.FutureCancelledError()):
        with pytest.raises(IndexUnavailable), asking("get in x"):
            raise bare


def test_every_grpc_status_has_a_meaning() -> None:
    assert set(grpc.StatusCode) == set(failures.BY_STATUS)


def test_every_code_of_pymilvus_has_a_meaning() -> None:
    assert set(exceptions.ErrorCode) <= set(failures.BY_CODE)


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_exceptions_become_ours(one: type[exceptions.MilvusException]) -> None:
    error = translate(one(message="said Milvus"), "search in x at y")
    assert isinstance(error, IndexUnavailable | SettingError | StageStopped)
    assert str(error).startswith("search in x at y: ")
    assert "said Milvus" in str(error)


@pytest.mark.parametrize("status", list(grpc.StatusCode), ids=lambda status: status.name)
def test_statuses_become_ours_however_pymilvus_wraps_them(status: grpc.StatusCode) -> None:
    plain = translate(Rpc(status), "x")
    wrapped = exceptions.MilvusException(message="Fail connecting")
    wrapped.__cause__ = Rpc(status)
    after_retries = exceptions.MilvusException(status, "Retry timeout")
    itself = exceptions.MilvusException(status, "raise e from e")
    itself.__cause__ = itself
    kinds = {type(translate(failure, "x")) for failure in (wrapped, after_retries, itself)}
    assert "said the server" in str(translate(wrapped, "x"))
    assert kinds == {type(plain)} == {failures.BY_STATUS[status]}
    assert status.name in str(plain)


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (Rpc(grpc.StatusCode.UNAVAILABLE), IndexUnavailable),
        (Rpc(grpc.StatusCode.DEADLINE_EXCEEDED), IndexUnavailable),
        (Rpc(grpc.StatusCode.UNAUTHENTICATED), NotPermitted),
        (Rpc(grpc.StatusCode.UNIMPLEMENTED), StageStopped),
        (exceptions.MilvusException(100, "collection not found"), IndexUnavailable),
        (exceptions.MilvusException(101, "collection not loaded"), IndexUnavailable),
        (exceptions.MilvusException(8, "rate limit"), IndexUnavailable),
        (exceptions.MilvusException(65535, "whatever 2.3 says"), IndexUnavailable),
        (exceptions.MilvusException(99_999, "a code nobody has seen"), IndexUnavailable),
        (exceptions.MilvusException(1100, "invalid parameter"), StageStopped),
        (exceptions.MilvusException(1401, "privilege"), NotPermitted),
        (exceptions.ParamError(message="our bug"), StageStopped),
        (exceptions.ConnectionConfigException(message="uri"), SettingError),
        (grpc.FutureTimeoutError(), IndexUnavailable),
        (ConnectionResetError("peer"), IndexUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", None) or f"{type(value).__name__}",
)
def test_what_failures_mean(failure: BaseException, meaning: type[DejaviewError]) -> None:
    with pytest.raises(meaning) as raised, asking("get in x"):
        raise failure
    assert raised.type is meaning
    assert raised.value.__cause__ is failure


def test_a_bug_that_pymilvus_wraps_stops_the_stage_and_a_closed_channel_does_not() -> None:
    for cause, meaning in (
        (TypeError("no such argument"), StageStopped),
        (ValueError("Cannot invoke RPC on closed channel!"), IndexUnavailable),
    ):
        wrapped = exceptions.MilvusException(message="Unexpected error")
        wrapped.__cause__ = cause
        assert type(translate(wrapped, "x")) is meaning


def test_our_own_errors_pass_untouched() -> None:
    for error in (ValueError("ours"), IndexUnavailable("ours"), KeyError("ours")):
        with pytest.raises(type(error)) as raised, asking("x"):
            raise error
        assert raised.value is error


def test_messages_are_one_short_line() -> None:
    text = str(translate(exceptions.MilvusException(message="line\n" * 10_000), "x"))
    assert "\n" not in text
    assert len(text) < 400


class FakeClient:
    """A client whose answers are complete but for one thing."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def search(self, *_: Any, **__: Any) -> Any:
        return self.answers["search"]

    def query(self, *_: Any, **__: Any) -> Any:
        return self.answers["query"]

    def _generate_call_context(self) -> None:
        return None

    def _get_connection(self) -> Any:
        return self

    def insert_rows(self, *_: Any, **__: Any) -> Any:
        return self.answers["insert"]


class Acknowledgement:
    def __init__(self, insert_count: int, timestamp: int) -> None:
        self.insert_count = insert_count
        self.timestamp = timestamp


def index_that_answers(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> MilvusIndex:
    index = MilvusIndex(IndexSettings(uri="http://127.0.0.1:1"), MODEL, DIMENSION)
    monkeypatch.setattr(index, "_connected", lambda: FakeClient(**answers))
    return index


def answer_of(*queries: Sequence[Row], **columns: list[Any]) -> Answer:
    """What a server sends for a search, one similarity for all; `columns` replaces some of its columns."""
    rows = [row for query in queries for row in query]
    data = SearchResultData(num_queries=len(queries), topks=[len(query) for query in queries], scores=[0.5] * len(rows))
    data.ids.str_id.data.extend(row.row_id for row in rows)
    for name in HIT_FIELDS:
        values = columns.get(name, [record_of_row(row)[name] for row in rows])
        scalars = data.fields_data.add(field_name=name).scalars
        kind = {int: scalars.long_data, float: scalars.float_data, str: scalars.string_data}[
            type(record_of_row(make_row(1))[name])
        ]
        kind.data.extend(values)
    return Answer(data)


def test_fewer_answers_than_queries_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_that_answers(monkeypatch, search=answer_of([]))
    with pytest.raises(IndexUnavailable, match="1 answers to 2 queries"):
        index.search("acme", np.stack([unit(1), unit(2)]), None)


def test_each_query_gets_its_own_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query without hits may come first. Break: hits counted from the start for each query."""
    rows = [make_row(number) for number in range(4)]
    index = index_that_answers(monkeypatch, search=answer_of([], rows[:3], rows[3:]))
    found = index.search("acme", np.stack([unit(1), unit(2), unit(3)]), None)
    assert [[hit.row_id for hit in hits] for hits in found] == [[], [r.row_id for r in rows[:3]], [rows[3].row_id]]
    assert found[2] == [hit_of_row(rows[3], 0.5)]


@pytest.mark.parametrize("column", [name for name in HIT_FIELDS if name != "row_id"])
def test_a_column_that_is_too_short_is_no_answer(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    """No hit gets another's field. Break: `zip` without `strict`."""
    rows = [make_row(1), make_row(2)]
    short = answer_of(rows, **{column: [record_of_row(rows[0])[column]]})
    with pytest.raises(IndexUnavailable, match="search"):
        index_that_answers(monkeypatch, search=short).search("acme", unit(1)[None], None)
    missing = answer_of(rows)
    place = [field.field_name for field in missing.data.fields_data].index(column)
    del missing.data.fields_data[place]
    with pytest.raises(IndexUnavailable, match=f"no {column}"):
        index_that_answers(monkeypatch, search=missing).search("acme", unit(1)[None], None)


def test_fewer_hits_than_announced_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = answer_of([make_row(1), make_row(2)])
    answer.data.topks[0] = 3
    with pytest.raises(IndexUnavailable, match="2 hits where 3"):
        index_that_answers(monkeypatch, search=answer).search("acme", unit(1)[None], None)
    del answer.data.scores[1]
    with pytest.raises(IndexUnavailable, match="search"):
        index_that_answers(monkeypatch, search=answer).search("acme", unit(1)[None], None)


def test_a_verdict_that_is_none_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer release may have written it. Break: look it up with brackets."""
    index = index_that_answers(monkeypatch, search=answer_of([make_row(1)], verdict=["merged"]))
    with pytest.raises(IndexUnavailable, match="merged"):
        index.search("acme", unit(1)[None], None)


def test_a_pymilvus_that_answers_otherwise_stops_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and no answer is taken for an empty one. Break: read `data` of whatever comes."""
    index = index_that_answers(monkeypatch, search=[[]])
    with pytest.raises(StageStopped, match="release"):
        index.search("acme", unit(1)[None], None)


def test_another_tenants_row_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_that_answers(monkeypatch, search=answer_of([make_row(1, "globex")]))
    with pytest.raises(IndexUnavailable, match="another tenant"):
        index.search("acme", unit(1)[None], None)


def test_repeated_ids_are_joined_even_by_a_server_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    row = make_row(1)
    record = record_of_row(row)
    index = index_that_answers(monkeypatch, search=answer_of([row] * 3), query=[record] * 3)
    assert len(index.search("acme", unit(1)[None], None)[0]) == 1
    assert index.get([row.row_id], None).keys() == {row.row_id}


def test_an_answer_that_may_be_cut_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_that_answers(monkeypatch, query=[{"entry": "{}"}] * 16_384)
    with pytest.raises(IndexUnavailable, match="cut"):
        index.links(None, None, None)


@pytest.mark.parametrize(
    ("count", "timestamp", "says"), [(1, 2**60, "1 of 2"), (2, 0, "timestamp"), (2, 1, "timestamp")]
)
def test_an_insert_that_took_less_or_has_no_timestamp_failed(
    monkeypatch: pytest.MonkeyPatch, count: int, timestamp: int, says: str
) -> None:
    index = index_that_answers(monkeypatch, insert=Acknowledgement(count, timestamp))
    with pytest.raises(IndexUnavailable, match=says):
        index.insert([make_row(1), make_row(2)])


def test_a_link_of_an_unknown_form_stops_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in ("", "{}", "[]", '{"start": 5}', '{"start": 5, "end": 5}'):
        index = index_that_answers(monkeypatch, query=[{"entry": entry}])
        with pytest.raises(StageStopped, match="link"):
            index.links(None, None, None)


def test_an_address_that_is_none_is_a_setting_to_correct() -> None:
    index = MilvusIndex(IndexSettings(uri="nonsense://x"), MODEL, DIMENSION)
    with pytest.raises(SettingError, match=r"index\.uri"):
        index.prepare()


def test_nobody_at_the_address_is_unavailable_for_every_call() -> None:
    index = MilvusIndex(IndexSettings(uri="http://127.0.0.1:1", timeout_s=1), MODEL, DIMENSION)
    calls = [
        index.prepare,
        lambda: index.search("acme", unit(1)[None], None),
        lambda: index.get([make_row(1).row_id], None),
        lambda: index.insert([make_row(1)]),
        lambda: index.append_links([make_link(0, 1)]),
        lambda: index.links(None, None, None),
        lambda: index.delete_links([make_link(0, 1)]),
        index.count_rows,
    ]
    for call in calls:
        with pytest.raises(IndexUnavailable):
            call()
