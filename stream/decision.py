"""The decision: one picture, its candidates, a verdict. Pure: no I/O, no clock, no state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from models import panels
from models.perceptual import DISTANCE_MAX, QUALITY_MIN, agreement, hamming
from schemas.events import Box, Evidence, Fingerprint, Neighbour, Vector, Verdict, VerdictKind, decode_embedding
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
class View:
    """What candidates are compared with: a picture, or a panel of it. `embedding` is float32 [256] of length 1."""

    embedding: Vector
    bias: float
    pdq: str
    pdq_quality: int
    box: Box | None = None


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
    panels: tuple[View, ...] = ()

    @property
    def views(self) -> tuple[View, ...]:
        """The whole picture, then its panels."""
        return View(self.embedding, self.bias, self.pdq, self.pdq_quality), *self.panels

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
            panels=tuple(
                View(decode_embedding(panel.embedding), panel.bias, panel.pdq, panel.pdq_quality, panel.box)
                for panel in fingerprint.panels
            ),
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


class Score(NamedTuple):
    """What says that a row and a view are copies.

    Attributes:
        total: what is held against the thresholds, rounded to 1e-4.
        embedding: of it, what the embedding says alone.
        agreed: the perceptual hashes, of the picture or of a panel, are as near as those of copies.
    """

    total: float
    embedding: float
    agreed: bool


_SAME_BYTES = 1.0


@dataclass(frozen=True, slots=True)
class _Ranked:
    hit: Hit
    exact: bool
    score: Score
    box: Box | None

    @property
    def order(self) -> tuple[bool, float, int, str]:
        return (not self.exact, -self.score.total, self.hit.ledger_offset, self.hit.row_id)

    def neighbour(self) -> Neighbour:
        return Neighbour(
            upload_id=self.hit.upload_id,
            similarity=round(self.hit.similarity, DIGITS),
            score=self.score.total,
            verdict=self.hit.verdict,
            panel=self.box,
        )


def score_of(view: View, hit: Hit) -> Score:
    """Similarity less half of both biases (symmetric background normalisation), and what the perceptual hashes add.

    A panel's is lowered by `panels.COST`.
    """
    alone = float(hit.similarity) - (view.bias + hit.bias) / 2 - (panels.COST if view.box is not None else 0.0)
    if min(view.pdq_quality, hit.pdq_quality) < QUALITY_MIN:
        return Score(round(alone, DIGITS), round(alone, DIGITS), agreed=False)
    distance = hamming(view.pdq, hit.pdq)
    return Score(round(alone + agreement(distance), DIGITS), round(alone, DIGITS), distance <= DISTANCE_MAX)


def join(hits: Iterable[Hit]) -> list[Hit]:
    """One hit a row: the window and the index may both know it, and a repeated insert is still one row."""
    rows: dict[str, Hit] = {}
    for hit in hits:
        known = rows.get(hit.row_id)
        if known is None or (-hit.similarity, hit.ledger_offset) < (-known.similarity, known.ledger_offset):
            rows[hit.row_id] = hit
    return list(rows.values())


def judge(item: Item, candidates: Iterable[Hit], rule: Rule, of_panels: Sequence[Iterable[Hit]] = ()) -> Verdict:
    """The verdict on an item, given the representatives of its tenant that are near it, and near each of its panels.

    A row's score is its best over the picture and its panels. A candidate with the item's own row id is the same
    bytes: similarity and score are 1 by definition (identity is not normalised) and so is the confidence.

    Raises:
        ValueError: a candidate belongs to another tenant, and nothing may be said of it; or candidates are given of
            more or fewer panels than there are.
    """
    ranked = _rank(item, (candidates, *of_panels), rule)
    best = ranked[0] if ranked else None
    kind = _kind(best, rule)
    evidence = _evidence(best, rule) if best else []
    neighbours = [r.neighbour() for r in ranked]
    return Verdict(
        tenant=item.tenant,
        upload_id=item.upload_id,
        verdict=kind,
        match=neighbours[0] if kind is not VerdictKind.UNIQUE else None,
        similarity=neighbours[0].similarity if best else None,
        score=best.score.total if best else None,
        threshold=rule.duplicate_threshold,
        margin=round(best.score.total - rule.duplicate_threshold, DIGITS) if best else None,
        confidence=_confidence(best, rule),
        evidence=evidence,
        neighbours=neighbours,
        model_id=item.model_id,
        sha256=item.sha256,
    )


def _rank(item: Item, found: Sequence[Iterable[Hit]], rule: Rule) -> Sequence[_Ranked]:
    """The rows nearest to each view, by score.

    Of each view as many as are asked of the index, and chosen as the index chooses: which of them the window still
    holds, and how many more it would have offered, must not matter.
    """
    views = [(view, list(candidates)) for view, candidates in zip(item.views, found, strict=True)]
    _, of_whole = views[0]
    if any(hit.row_id == item.row_id for hit in of_whole):
        # The same bytes: no panel has more to say.
        views = views[:1]
    best: dict[str, _Ranked] = {}
    for view, candidates in views:
        for hit in _nearest(item, view, candidates)[: rule.neighbours_max]:
            exact, score = hit.row_id == item.row_id, score_of(view, hit)
            if exact:
                score = Score(_SAME_BYTES, _SAME_BYTES, score.agreed)
            known = best.get(hit.row_id)
            if known is None:
                best[hit.row_id] = _Ranked(hit, exact, score, view.box)
                continue
            agreed = score.agreed or known.score.agreed
            if score.total > known.score.total:
                known = _Ranked(hit, exact, score, view.box)
            best[hit.row_id] = replace(known, score=known.score._replace(agreed=agreed))
    return sorted(best.values(), key=lambda r: r.order)[: rule.neighbours_max]


def _nearest(item: Item, view: View, candidates: Iterable[Hit]) -> list[Hit]:
    """The most similar first. The item's own row is the same bytes: similarity 1, and none of a panel's concern."""
    known = join(candidates)
    for hit in known:
        if hit.tenant != item.tenant:
            raise ValueError(f"candidate of tenant {hit.tenant!r} for an item of tenant {item.tenant!r}")
    if view.box is not None:
        known = [hit for hit in known if hit.row_id != item.row_id]
    else:
        known = [hit.at(1.0) if hit.row_id == item.row_id else hit for hit in known]
    return sorted(known, key=lambda hit: (-hit.similarity, hit.ledger_offset, hit.row_id))


def _kind(best: _Ranked | None, rule: Rule) -> VerdictKind:
    if best is None or (not best.exact and best.score.total < rule.review_threshold):
        return VerdictKind.UNIQUE
    if best.exact or best.score.total >= rule.duplicate_threshold:
        return VerdictKind.DUPLICATE
    return VerdictKind.REVIEW


def _confidence(best: _Ranked | None, rule: Rule) -> float:
    if best is None:
        return 0.0
    if best.exact:
        return 1.0
    return round(rule.calibration.confidence(best.score.total, agreed=best.score.agreed), DIGITS)


def _evidence(best: _Ranked, rule: Rule) -> list[Evidence]:
    fired = []
    if best.exact:
        fired.append(Evidence.EXACT)
    enough = best.score.embedding >= rule.duplicate_threshold
    if best.score.agreed or (best.score.total >= rule.duplicate_threshold and not enough):
        fired.append(Evidence.PERCEPTUAL)
    if enough:
        fired.append(Evidence.EMBEDDING)
    return fired
