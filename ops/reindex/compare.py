"""An index held against the ledger: is every row there, and does it answer as an exact search does?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ops.reindex.truth import Question, Sample, answer, ledger_rows
from schemas.events import Vector, Verdict
from stream.config import Settings
from stream.decision import Item, Rule, judge
from stream.errors import IndexUnavailable
from stream.neighbours.protocol import STRONG, Hit, Index, Row

SAMPLE_SEED = 1
QUESTIONS_AT_ONCE = 100


@dataclass(slots=True)
class Standing:
    """What was found of one index.

    `missing`: rows of the ledger that it lacks. `same`: questions whose verdict and match are those of exact search.
    `found` of `nearest`: exact neighbours of all questions that it named.
    """

    name: str
    rows: int = 0
    missing: int = 0
    examples: list[str] = field(default_factory=list)
    questions: int = 0
    same: int = 0
    nearest: int = 0
    found: int = 0

    @property
    def agreement(self) -> float:
        """The share of questions with the same verdict, 1 without any."""
        return self.same / self.questions if self.questions else 1.0

    @property
    def recall(self) -> float:
        return self.found / self.nearest if self.nearest else 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """An index to compare. A read that guarantees `timestamp` sees what was written up to it."""

    standing: Standing
    index: Index
    timestamp: int | None = STRONG


def compare(
    settings: Settings, rule_of: Callable[[str], Rule], asked: Sequence[Asked], ends: Mapping[int, int], questions: int
) -> None:
    """Fill in the standings, from the ledger below `ends`. Reads it twice; memory for the questions alone.

    Args:
        questions: how many rows are asked for their neighbours.

    Raises:
        BrokerUnavailable, CommandError, IndexUnavailable: not all was read.
    """
    sample = Sample(questions, SAMPLE_SEED)
    for rows in ledger_rows(settings, ends):
        sample.add(rows)
        for one in asked:
            _look_up(one, rows)
    chosen = [Question(row) for row in sample.rows]
    limit = settings.index.neighbours_max
    for rows in ledger_rows(settings, ends):
        answer(chosen, rows, limit)
    for one in asked:
        _ask(one, chosen, rule_of, ends)


def _look_up(one: Asked, rows: Sequence[Row]) -> None:
    """Count the rows that are not there, and are not with what the ledger says of them."""
    there = one.index.get([row.row_id for row in rows], one.timestamp) if rows else {}
    standing = one.standing
    standing.rows += len(rows)
    for row in rows:
        found = there.get(row.row_id)
        if found is None or (found.hit.tenant, found.hit.sha256) != (row.tenant, row.sha256):
            standing.missing += 1
            standing.examples += [f"{row.ledger_partition}:{row.ledger_offset}"][: 5 - len(standing.examples)]


def _ask(one: Asked, questions: Sequence[Question], rule_of: Callable[[str], Rule], ends: Mapping[int, int]) -> None:
    by_tenant: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_tenant[question.row.tenant].append(question)
    for tenant, own in by_tenant.items():
        for start in range(0, len(own), QUESTIONS_AT_ONCE):
            part = own[start : start + QUESTIONS_AT_ONCE]
            vectors: Vector = np.stack([question.row.embedding for question in part])
            for question, hits in zip(part, one.index.search(tenant, vectors, one.timestamp), strict=True):
                _note(one.standing, question, _comparable(question, hits, ends), rule_of(tenant))


def _comparable(question: Question, hits: Iterable[Hit], ends: Mapping[int, int]) -> list[Hit]:
    """Without the row itself, and without rows that came after what is compared."""
    row = question.row
    end = ends[row.ledger_partition]
    return [hit for hit in hits if hit.row_id != row.row_id and hit.ledger_offset < end]


def _note(standing: Standing, question: Question, hits: list[Hit], rule: Rule) -> None:
    # The index was asked for one row more: the question's own.
    exact = question.exact[: rule.neighbours_max - 1]
    told = {hit.row_id for hit in hits}
    standing.questions += 1
    standing.nearest += len(exact)
    standing.found += sum(hit.row_id in told for hit in exact)
    standing.same += _essence(_verdict(question.row, hits, rule)) == _essence(_verdict(question.row, exact, rule))


def _verdict(row: Row, hits: Iterable[Hit], rule: Rule) -> Verdict:
    item = Item(
        row.row_id, row.tenant, row.upload_id, row.sha256, row.pdq, row.pdq_quality, row.bias, row.embedding, "compared"
    )  # fmt: skip
    return judge(item, hits, rule)


def _essence(verdict: Verdict) -> tuple[str, str | None]:
    return verdict.verdict, verdict.match.upload_id if verdict.match else None


def refusal(new: Standing, old: Standing | None, agreement_min: float) -> str | None:
    """Why the new index must not be switched to, None if it may.

    It must hold every row, and answer as the exact search does: as often as asked for, or as the index in use does.
    """
    if new.missing:
        examples = ", ".join(new.examples)
        return (
            f"{new.missing} of {new.rows} rows of the ledger are missing in it (ledger partition:offset {examples} …)"
        )
    wanted = min(agreement_min, old.agreement) if old is not None and not old.missing else agreement_min
    if new.agreement < wanted:
        return (
            f"{new.questions - new.same} of {new.questions} verdicts differ from exact search: agreement "
            f"{new.agreement:.4f}, wanted {wanted:.4f}"
        )
    return None


def unavailable(index: Index) -> bool:
    """Whether an index does not answer at all: dropped, released or away."""
    try:
        index.links(None, None, STRONG)
    except IndexUnavailable:
        return True
    return False
