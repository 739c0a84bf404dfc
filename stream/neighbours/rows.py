"""What both indexes do with rows and hits: check, order, join, convert. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np

from schemas.events import Vector, VerdictKind
from stream.neighbours.filters import LINKS_TENANT, checked_link_id, checked_row_id, checked_tenant
from stream.neighbours.protocol import TIMESTAMP_MIN, Found, Hit, Link, Row

ENTRY_BYTES_MAX = 65_535
UPLOAD_ID_BYTES_MAX = 1_024  # 256 characters of up to four bytes
HIT_FIELDS = Hit._fields[:-1]
_similarity = itemgetter(Hit._fields.index("similarity"))

Item = TypeVar("Item")


def check_rows(rows: Sequence[Row], dimension: int) -> None:
    """Refuse what an index could not keep or find again.

    Raises:
        ValueError: no rows, a name that is none, an entry too long, a vector of another size, not finite or zero.
    """
    if not rows:
        raise ValueError("insert wants one row at least")
    for row in rows:
        checked_row_id(row.row_id)
        checked_tenant(row.tenant)
        if len(row.entry.encode()) > ENTRY_BYTES_MAX:
            raise ValueError(f"the entry of row {row.row_id} is longer than {ENTRY_BYTES_MAX} bytes")
        if len(row.upload_id.encode()) > UPLOAD_ID_BYTES_MAX:
            raise ValueError(f"the upload id of row {row.row_id} is longer than {UPLOAD_ID_BYTES_MAX} bytes")
        if row.embedding.shape != (dimension,):
            raise ValueError(f"the embedding of row {row.row_id} has shape {row.embedding.shape}, not ({dimension},)")
    check_vectors(np.stack([row.embedding for row in rows]), dimension)


def check_appended(links: Sequence[Link]) -> None:
    """Refuse to write nothing.

    Raises:
        ValueError: no links.
    """
    if not links:
        raise ValueError("append_links wants one link at least")


def check_vectors(vectors: Vector, dimension: int) -> None:
    """Refuse queries that have no cosine.

    Raises:
        ValueError: not [N, dimension], not finite, or a zero vector.
    """
    if vectors.shape != (len(vectors), dimension):
        raise ValueError(f"vectors have shape {vectors.shape}, not (N, {dimension})")
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("a vector is zero or holds values that are not finite: it has no cosine")


def check_guarantee(guarantee: int | None) -> None:
    """Refuse a guarantee that the server would read as a consistency level.

    Raises:
        ValueError: below `TIMESTAMP_MIN`.
    """
    if guarantee is not None and guarantee < TIMESTAMP_MIN:
        raise ValueError(f"a guaranteed timestamp is an acknowledgement's (2**18 or more), got {guarantee}")


def best_hits(hits: Iterable[Hit], limit: int) -> list[Hit]:
    """The most similar first, one hit a row: the window and the index may both know it, a repeated insert is one row.

    Equals by ledger offset and row id; those that tie with the last one are compared before the cut.
    """
    joined: dict[str, Hit] = {}
    least = -math.inf
    for hit in sorted(hits, key=_similarity, reverse=True):
        if len(joined) >= limit and hit.similarity < least:
            break
        known = joined.get(hit.row_id)
        if known is None:
            least = hit.similarity
        elif hit.similarity < known.similarity or hit.ledger_offset >= known.ledger_offset:
            continue
        joined[hit.row_id] = hit
    return sorted(joined.values(), key=lambda hit: (-hit.similarity, hit.ledger_offset, hit.row_id))[:limit]


def hit_of_row(row: Row, similarity: float) -> Hit:
    return hit_of_record({name: getattr(row, name) for name in HIT_FIELDS}, similarity)


def record_of_row(row: Row) -> dict[str, Any]:
    """A row as the collection's fields."""
    record = {name: getattr(row, name) for name in Row.__slots__}
    record["verdict"] = row.verdict.value
    return record


def hit_of_record(record: Mapping[str, Any], similarity: float) -> Hit:
    """The collection's fields as a hit. Rounding may lift a cosine above 1: it is clipped."""
    return Hit(
        row_id=record["row_id"],
        tenant=record["tenant"],
        upload_id=record["upload_id"],
        sha256=record["sha256"],
        pdq=record["pdq"],
        pdq_quality=record["pdq_quality"],
        bias=record["bias"],
        verdict=VerdictKind(record["verdict"]),
        ledger_offset=record["ledger_offset"],
        similarity=min(1.0, max(-1.0, float(similarity))),
    )


def found_of_record(record: Mapping[str, Any]) -> Found:
    return Found(hit=hit_of_record(record, 1.0), entry=record["entry"])


def record_of_link(link: Link, dimension: int) -> dict[str, Any]:
    """A link as the collection's fields: itself in `entry`, its ledger in `upload_id`, so that filters find it."""
    embedding = np.zeros(dimension, dtype=np.float32)
    embedding[0] = 1.0  # unused; Milvus wants a vector that has a cosine
    return {
        "row_id": checked_link_id(link),
        "tenant": LINKS_TENANT,
        "upload_id": link.ledger_topic_id,
        "sha256": "",
        "pdq": "",
        "pdq_quality": 0,
        "bias": 0.0,
        "verdict": "",
        "ledger_partition": link.ledger_partition,
        "ledger_offset": link.start,
        "entry": json.dumps(asdict(link)),
        "embedding": embedding,
    }


def link_of_record(record: Mapping[str, Any]) -> Link:
    """The link of a record.

    Raises:
        ValueError: the record holds none that this release can read.
    """
    try:
        return Link(**json.loads(record["entry"]))
    except TypeError as error:
        raise ValueError(f"not a link: {str(record['entry'])[:200]}") from error


def in_order(links: Iterable[Link]) -> list[Link]:
    """Each link once, by ledger, partition and start."""
    unique = {(link.link_id, link.timestamp): link for link in links}
    return sorted(unique.values(), key=lambda link: (link.ledger_topic_id, link.ledger_partition, link.start, link.end))


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in pieces of `size` at most."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def row_chunks(rows: Sequence[Row], bytes_max: int) -> Iterator[list[Row]]:
    """Rows in pieces whose requests stay below about `bytes_max`, one row at least in each."""
    piece: list[Row] = []
    size = 0
    for row in rows:
        row_bytes = row.embedding.nbytes + len(row.entry.encode()) + len(row.upload_id.encode()) + 512
        if piece and size + row_bytes > bytes_max:
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += row_bytes
    if piece:
        yield piece
