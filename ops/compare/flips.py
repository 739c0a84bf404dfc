"""Where two streams of verdicts on the same uploads differ. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from ops.cli.replay import Place
from schemas.events import Verdict, VerdictKind
from stream.kafka import Record

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is kept of a verdict: about 500 bytes. `place` is the upload's record."""

    kind: VerdictKind
    match: str | None
    score: float | None
    margin: float | None
    confidence: float
    model_id: str
    sha256: str
    place: Place | None


@dataclass(frozen=True, slots=True)
class Flip:
    """An upload that two deployments answer differently: another verdict, or another match."""

    tenant: str
    upload_id: str
    old: Judged
    new: Judged

    @property
    def certainty(self) -> float:
        """How far both verdicts are from their thresholds; flips at the edge of a threshold are expected."""
        return abs(self.old.margin or 0.0) + abs(self.new.margin or 0.0)


@dataclass(slots=True)
class Comparison:
    """`table`: how many uploads have this verdict in the old and that one in the new deployment."""

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    flips: list[Flip] = field(default_factory=list)
    other_matches: list[Flip] = field(default_factory=list)
    only_old: int = 0
    only_new: int = 0
    # The same id with other bytes: not the same upload.
    other_bytes: int = 0

    @property
    def compared(self) -> int:
        return self.table.total()


def verdicts_of(records: Iterable[Record]) -> dict[Key, Judged]:
    """The first verdict on every upload; repeats, which say the same again, and what is no verdict are left out."""
    found: dict[Key, Judged] = {}
    for record in records:
        try:
            verdict = Verdict.model_validate_json(record.value or b"")
        except ValidationError:
            continue
        key = (verdict.tenant, verdict.upload_id)
        if verdict.repeat and key in found:
            continue
        found[key] = _judged(verdict)
    return found


def compare(old: Mapping[Key, Judged], new: Mapping[Key, Judged]) -> Comparison:
    """Flips in the order of their certainty: the first are worth a look."""
    result = Comparison(only_old=len(old.keys() - new.keys()), only_new=len(new.keys() - old.keys()))
    for key in sorted(old.keys() & new.keys()):
        before, after = old[key], new[key]
        if before.sha256 != after.sha256:
            result.other_bytes += 1
            continue
        result.table[before.kind, after.kind] += 1
        flip = Flip(*key, before, after)
        if before.kind is not after.kind:
            result.flips.append(flip)
        elif before.match != after.match:
            result.other_matches.append(flip)
    for flips in (result.flips, result.other_matches):
        flips.sort(key=lambda flip: (-flip.certainty, flip.tenant, flip.upload_id))
    return result


def _judged(verdict: Verdict) -> Judged:
    trace = verdict.trace
    place = Place(trace.source_topic, trace.source.partition, trace.source.offset) if trace is not None else None
    match = verdict.match.upload_id if verdict.match is not None else None
    return Judged(
        kind=verdict.verdict,
        match=match,
        score=verdict.score,
        margin=verdict.margin,
        confidence=verdict.confidence,
        model_id=verdict.model_id,
        sha256=verdict.sha256,
        place=place,
    )
