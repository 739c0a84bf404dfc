"""A search's answer, read by columns as it comes.

pymilvus makes two dicts of every hit: for 256 queries that and reading them took 27 ms of the interpreter, the columns
take 3 (`ops/bench/NOTES.md`). It has no other way to hand them out, so that its class for answers is replaced here, in
this process. The contract tests hold this against the installed pymilvus.
"""

from __future__ import annotations

from typing import Any

from pymilvus.client import grpc_handler
from pymilvus.grpc_gen.schema_pb2 import SearchResultData

from schemas.events import VerdictKind
from stream.errors import StageStopped
from stream.neighbours.protocol import Hit
from stream.neighbours.rows import HIT_FIELDS

_VERDICTS = {kind.value: kind for kind in VerdictKind}


class Answer:
    """Takes the place of pymilvus's `SearchResult`."""

    def __init__(self, data: SearchResultData, *_: Any, **__: Any) -> None:
        self.data = data


grpc_handler.SearchResult = Answer


def hits_by_query(answer: Any) -> list[list[Hit]]:
    """The hits of each query, in the server's order. Rounding may lift a cosine above 1: it is clipped.

    Raises:
        ValueError: the columns are not of one length, one is missing, or a verdict is none.
        StageStopped: pymilvus did not make it an `Answer`.
    """
    if not isinstance(answer, Answer):
        raise StageStopped(f"this pymilvus answers searches with {type(answer).__name__}: a release that is not known")
    data = answer.data
    counts = list(data.topks)
    if not sum(counts):
        return [[] for _ in counts]
    columns: dict[str, Any] = {field.field_name: _values(field.scalars) for field in data.fields_data}
    columns["row_id"] = data.ids.str_id.data
    missing = [name for name in HIT_FIELDS if name not in columns]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    columns["verdict"] = [_VERDICTS.get(value) or VerdictKind(value) for value in columns["verdict"]]
    similarity = [min(1.0, max(-1.0, score)) for score in data.scores]
    rows = zip(*(columns[name] for name in HIT_FIELDS), similarity, strict=True)
    hits = [Hit._make(row) for row in rows]
    if len(hits) != sum(counts):
        raise ValueError(f"{len(hits)} hits where {sum(counts)} are announced")
    found, end = [], 0
    for count in counts:
        start, end = end, end + count
        found.append(hits[start:end])
    return found


def _values(scalars: Any) -> Any:
    kind = scalars.WhichOneof("data")
    return getattr(scalars, kind).data if kind is not None else ()
