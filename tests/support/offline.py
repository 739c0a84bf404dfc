"""The offline judge: the same decision over an exact search, straight down the fingerprints log.

It shares `stream.decision` with the product and nothing else: no window, no memory, no index, no batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from schemas.events import EMBEDDING_SIZE, Fingerprint, FingerprintFailure, Verdict, VerdictKind, fingerprint_record
from stream.decision import Item, Rule, View, judge
from stream.kafka import Record
from stream.neighbours.protocol import Hit

# The most similar rows that the rule is shown; it looks at ten.
_SHOWN = 50
# One rounding step: float32 sums are added up in another order in Milvus and in numpy.
_STEP = 1.01e-4


@dataclass(frozen=True)
class Answer:
    """What must come out for one upload record: a verdict, or a dead letter's reason."""

    upload_id: str | None
    verdict: Verdict | None
    reason: str | None


@dataclass
class _Gallery:
    """A tenant's representatives, and an exact search over all of them."""

    hits: list[Hit] = field(default_factory=list)
    by_row_id: dict[str, int] = field(default_factory=dict)
    vectors: np.ndarray = field(default_factory=lambda: np.empty((64, EMBEDDING_SIZE)))

    def add(self, item: Item, kind: VerdictKind, order: int) -> None:
        count = len(self.hits)
        if count == len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.empty_like(self.vectors)])
        self.vectors[count] = item.embedding
        self.by_row_id.setdefault(item.row_id, count)
        self.hits.append(item.as_hit(kind, order))

    def near(self, view: View, row_id: str) -> list[Hit]:
        count = len(self.hits)
        if not count:
            return []
        similarity = self.vectors[:count] @ view.embedding.astype(np.float64)
        chosen = {*np.argsort(-similarity, kind="stable")[:_SHOWN]}
        if row_id in self.by_row_id:
            chosen.add(self.by_row_id[row_id])
        return [self.hits[n].at(float(similarity[n])) for n in sorted(map(int, chosen))]


def judge_log(records: Iterable[Record], rule_of: Callable[[str], Rule]) -> dict[str, Answer]:
    """Answers by source position, for the records of one or more partitions (each in log order)."""
    answers: dict[str, Answer] = {}
    representatives: dict[str, _Gallery] = defaultdict(_Gallery)
    first_verdicts: dict[tuple[str, str], Verdict] = {}
    for order, record in enumerate(records):
        parsed = fingerprint_record.validate_json(record.value or b"")
        if parsed.source.key in answers:
            continue
        answers[parsed.source.key] = _answer(parsed, order, representatives, first_verdicts, rule_of)
    return answers


def _answer(
    parsed: Fingerprint | FingerprintFailure,
    order: int,
    representatives: dict[str, _Gallery],
    first_verdicts: dict[tuple[str, str], Verdict],
    rule_of: Callable[[str], Rule],
) -> Answer:
    if isinstance(parsed, FingerprintFailure):
        return Answer(parsed.upload_id, None, parsed.reason)
    earlier = first_verdicts.get((parsed.tenant, parsed.upload_id))
    if earlier is not None and earlier.sha256 != parsed.sha256:
        return Answer(parsed.upload_id, None, "id_conflict")
    if earlier is not None:
        return Answer(parsed.upload_id, earlier.model_copy(update={"repeat": True}), None)
    item = Item.of(parsed)
    own = representatives[item.tenant]
    of_whole, *of_panels = [own.near(view, item.row_id) for view in item.views]
    verdict = judge(item, of_whole, rule_of(item.tenant), of_panels)
    first_verdicts[item.tenant, item.upload_id] = verdict
    if verdict.verdict is not VerdictKind.DUPLICATE:
        own.add(item, verdict.verdict, order)
    return Answer(parsed.upload_id, verdict, None)


def disagreement(expected: Answer, got: Verdict) -> str | None:
    """Where a verdict differs from the offline judge's; scores may differ by one rounding step."""
    want = expected.verdict
    if want is None:
        return f"{got.upload_id}: a verdict, the offline judge says {expected.reason}"
    named = [(w, g) for w, g in zip(_named(want), _named(got), strict=True) if w != g]
    if named:
        return f"{got.upload_id}: (expected, got) {named}"
    if (want.verdict, want.repeat, want.evidence) != (got.verdict, got.repeat, got.evidence):
        return f"{got.upload_id}: {got.verdict} {got.evidence}, the offline judge says {want.verdict} {want.evidence}"
    if (want.match and want.match.upload_id) != (got.match and got.match.upload_id):
        return f"{got.upload_id}: matches {got.match}, the offline judge says {want.match}"
    for name in ("score", "similarity", "margin"):
        wanted, given = getattr(want, name), getattr(got, name)
        if (wanted is None) != (given is None) or (wanted is not None and abs(wanted - given) > _STEP):
            return f"{got.upload_id}: {name} {given}, the offline judge says {wanted}"
    return None


def _named(verdict: Verdict) -> tuple[str, str, str, str]:
    return (verdict.tenant, verdict.upload_id, verdict.sha256, verdict.model_id)
