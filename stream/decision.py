"""The decision: one picture, its candidates, a verdict. Pure: no I/O, no clock, no state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.perceptual import DISTANCE_MAX, QUALITY_MIN, hamming
from schemas.events import Evidence, Fingerprint, Neighbour, Vector, Verdict, VerdictKind, decode_embedding
from stream.neighbours.protocol import Hit
from stream.tenants import row_id

DIGITS = 4


class Confidence(Protocol):
    """P(duplicate | score), from the model's calibration. `agreed`: the perceptual hashes are near."""

    def confidence(self, score: float, *, agreed: bool) -> float: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """What a tenant's verdicts are decided by."""

    duplicate_threshold: float
    review_threshold: float
    neighbours_max: int
    calibration: Confidence


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to judge. `embedding` is float32 [256] of length 1."""

    row_id: str
    tenant: str
    upload_id: str
    sha256: str
    pdq: str
    pdq_quality: int
    bias: float
    embedding: Vector
    model_id: str

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> Item:
        return cls(
            row_id=row_id(fingerprint.tenant, fingerprint.sha256),
            tenant=fingerprint.tenant,
            upload_id=fingerprint.upload_id,
            sha256=fingerprint.sha256,
            pdq=fingerprint.pdq,
            pdq_quality=fingerprint.pdq_quality,
            bias=fingerprint.bias,
            embedding=decode_embedding(fingerprint.embedding),
            model_id=fingerprint.model_id,
        )

    def as_hit(self, verdict: VerdictKind, ledger_offset: int) -> Hit:
        """This item as a candidate for later ones; its own similarity is 1."""
        return Hit(
            row_id=self.row_id,
            tenant=self.tenant,
            upload_id=self.upload_id,
            sha256=self.sha256,
            pdq=self.pdq,
            pdq_quality=self.pdq_quality,
            bias=self.bias,
            verdict=verdict,
            ledger_offset=ledger_offset,
            similarity=1.0,
        )


@dataclass(frozen=True, slots=True)
class _Ranked:
    hit: Hit
    exact: bool
    score: float

    @property
    def order(self) -> tuple[bool, float, int, str]:
        return (not self.exact, -self.score, self.hit.ledger_offset, self.hit.row_id)

    def neighbour(self) -> Neighbour:
        return Neighbour(
            upload_id=self.hit.upload_id,
            similarity=round(self.hit.similarity, DIGITS),
            score=self.score,
            verdict=self.hit.verdict,
        )


def score_of(similarity: float, bias: float, row_bias: float) -> float:
    """Similarity less half of both biases, rounded to 1e-4 (symmetric background normalisation)."""
    return round(float(similarity) - (bias + row_bias) / 2, DIGITS)


def join(hits: Iterable[Hit]) -> list[Hit]:
    """One hit a row: the window and the index may both know it, and a repeated insert is still one row."""
    rows: dict[str, Hit] = {}
    for hit in hits:
        known = rows.get(hit.row_id)
        if known is None or (-hit.similarity, hit.ledger_offset) < (-known.similarity, known.ledger_offset):
            rows[hit.row_id] = hit
    return list(rows.values())


def judge(item: Item, candidates: Iterable[Hit], rule: Rule) -> Verdict:
    """The verdict on an item, given the representatives of its tenant that are near it.

    A candidate with the item's own row id is the same bytes: similarity and score are 1 by
    definition (identity is not normalised) and so is the confidence.

    Raises:
        ValueError: a candidate belongs to another tenant; nothing may be said of it.
    """
    ranked = _rank(item, candidates, rule)
    best = ranked[0] if ranked else None
    kind = _kind(best, rule)
    evidence = _evidence(item, best, rule) if best else []
    neighbours = [r.neighbour() for r in ranked]
    return Verdict(
        tenant=item.tenant,
        upload_id=item.upload_id,
        verdict=kind,
        match=neighbours[0] if kind is not VerdictKind.UNIQUE else None,
        similarity=neighbours[0].similarity if best else None,
        score=best.score if best else None,
        threshold=rule.duplicate_threshold,
        margin=round(best.score - rule.duplicate_threshold, DIGITS) if best else None,
        confidence=_confidence(best, evidence, rule),
        evidence=evidence,
        neighbours=neighbours,
        model_id=item.model_id,
        sha256=item.sha256,
    )


def _rank(item: Item, candidates: Iterable[Hit], rule: Rule) -> Sequence[_Ranked]:
    """The most similar rows, by score.

    As many as are asked of the index, and chosen as the index chooses: which of them the window still holds, and how
    many more it would have offered, must not matter.
    """
    known = [hit.at(1.0) if hit.row_id == item.row_id else hit for hit in join(candidates)]
    for hit in known:
        if hit.tenant != item.tenant:
            raise ValueError(f"candidate of tenant {hit.tenant!r} for an item of tenant {item.tenant!r}")
    nearest = sorted(known, key=lambda hit: (-hit.similarity, hit.ledger_offset, hit.row_id))[: rule.neighbours_max]
    ranked = []
    for hit in nearest:
        exact = hit.row_id == item.row_id
        ranked.append(_Ranked(hit, exact, 1.0 if exact else score_of(hit.similarity, item.bias, hit.bias)))
    return sorted(ranked, key=lambda r: r.order)


def _kind(best: _Ranked | None, rule: Rule) -> VerdictKind:
    if best is None or (not best.exact and best.score < rule.review_threshold):
        return VerdictKind.UNIQUE
    if best.exact or best.score >= rule.duplicate_threshold:
        return VerdictKind.DUPLICATE
    return VerdictKind.REVIEW


def _confidence(best: _Ranked | None, evidence: Sequence[Evidence], rule: Rule) -> float:
    if best is None:
        return 0.0
    if best.exact:
        return 1.0
    return round(rule.calibration.confidence(best.score, agreed=Evidence.PERCEPTUAL in evidence), DIGITS)


def _evidence(item: Item, best: _Ranked, rule: Rule) -> list[Evidence]:
    fired = []
    if best.exact:
        fired.append(Evidence.EXACT)
    trusted = min(item.pdq_quality, best.hit.pdq_quality) >= QUALITY_MIN
    if trusted and hamming(item.pdq, best.hit.pdq) <= DISTANCE_MAX:
        fired.append(Evidence.PERCEPTUAL)
    if best.score >= rule.duplicate_threshold:
        fired.append(Evidence.EMBEDDING)
    return fired
