"""What an index must answer, read from the ledger: every row, and the exact neighbours of some of them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ops.cli.replay import records_from
from schemas.events import Vector
from stream.config import Settings
from stream.indexrows import rows_of
from stream.kafka import Record
from stream.neighbours.protocol import Hit, Row
from stream.neighbours.rows import best_hits, hit_of_row

ROWS_AT_ONCE = 1_000


@dataclass(slots=True)
class Question:
    """A row of the ledger as a query, and its nearest other rows by exact search, most similar first."""

    row: Row
    exact: list[Hit] = field(default_factory=list)


def ledger_rows(settings: Settings, ends: Mapping[int, int]) -> Iterator[list[Row]]:
    """The rows that the ledger holds below these offsets, some at a time.

    Raises:
        BrokerUnavailable, CommandError: not all was read.
    """
    records: list[Record] = []
    starts = dict.fromkeys((p for p, end in ends.items() if end > 0), 0)
    for record in records_from(settings, settings.topics.ledger, starts, ROWS_AT_ONCE):
        if record.offset < ends[record.partition]:
            records.append(record)
        if len(records) >= ROWS_AT_ONCE:
            yield rows_of(records)
            records = []
    yield rows_of(records)


class Sample:
    """So many rows, each with the same chance, of however many come (reservoir sampling)."""

    def __init__(self, size: int, seed: int) -> None:
        self.rows: list[Row] = []
        self._size = size
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._seen = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._seen += 1
            if len(self.rows) < self._size:
                self.rows.append(row)
            elif (place := self._random.randrange(self._seen)) < self._size:
                self.rows[place] = row


def answer(questions: Sequence[Question], rows: Iterable[Row], limit: int) -> None:
    """Take more rows into the exact answers: the `limit` most similar of the tenant, without the row itself."""
    by_tenant: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_tenant[row.tenant].append(row)
    for tenant, own in by_tenant.items():
        asked = [question for question in questions if question.row.tenant == tenant]
        if not asked:
            continue
        similarities = np.clip(_units(question.row for question in asked) @ _units(own).T, -1.0, 1.0)
        for question, line in zip(asked, similarities, strict=True):
            least = question.exact[-1].similarity if len(question.exact) >= limit else -np.inf
            near = [hit_of_row(own[place], float(line[place])) for place in np.flatnonzero(line >= least)]
            if near:
                others = [hit for hit in near if hit.row_id != question.row.row_id]
                question.exact = best_hits([*question.exact, *others], limit)


def _units(rows: Iterable[Row]) -> Vector:
    matrix = np.stack([row.embedding for row in rows])
    units: Vector = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return units
