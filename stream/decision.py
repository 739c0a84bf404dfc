"""The decision: one picture, its candidates, a verdict. Pure: no I/O, no clock, no state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, Protocol

from models import panels
from models.perceptual import DISTANCE_MAX, QUALITY_MIN, agreement, hamming
from schemas.events import Box, Evidence, Fingerprint, Vector, Verdict, VerdictKind, decode_embedding
from stream.neighbours.protocol import Hit
from stream.neighbours.rows import best_hits
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


class _Ranked(NamedTuple):
    """A row, and what a view says of it. Sorts best first by the first four fields.

    Attributes:
        differs: it is not the same bytes.
        below: how far below 0 the score is that is held against the thresholds, rounded to 1e-4.
        embedding: of the score, what the embedding says alone; it is rounded where it is asked for, of the best alone.
        agreed: the perceptual hashes, of the picture or of a panel, are as near as those of copies.
        box: the panel that is near; None: the whole picture.
    """

    differs: bool
    below: float
    ledger_offset: int
    row_id: str
    hit: Hit
    embedding: float
    agreed: bool
    box: Box | None

    @property
    def score(self) -> float:
        return -self.below

    def neighbour(self) -> dict[str, object]:
        """The fields of a `Neighbour`."""
        hit = self.hit
        return {
            "upload_id": hit.upload_id,
            "similarity": round(hit.similarity, DIGITS),
            "score": self.score,
            "verdict": hit.verdict,
            "panel": self.box,
        }


_SAME_BYTES = 1.0
_tenant, _row_id = (itemgetter(Hit._fields.index(name)) for name in ("tenant", "row_id"))


def _scored(view: View, hit: Hit) -> _Ranked:
    """Similarity less half of both biases (symmetric background normalisation), and what the perceptual hashes add.

    A panel's is lowered by `panels.COST`.
    """
    embedding = score = hit.similarity - (view.bias + hit.bias) / 2 - (panels.COST if view.box is not None else 0.0)
    agreed = False
    if view.pdq_quality >= QUALITY_MIN and hit.pdq_quality >= QUALITY_MIN:
        distance = hamming(view.pdq, hit.pdq)
        score += agreement(distance)
        agreed = distance <= DISTANCE_MAX
    return _Ranked(True, -round(score, DIGITS), hit.ledger_offset, hit.row_id, hit, embedding, agreed, view.box)


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
    # All neighbours in one validation: a call for each took a tenth of the judge's time.
    return Verdict.model_validate(
        {
            "tenant": item.tenant,
            "upload_id": item.upload_id,
            "verdict": kind,
            "match": neighbours[0] if kind is not VerdictKind.UNIQUE else None,
            "similarity": neighbours[0]["similarity"] if best else None,
            "score": best.score if best else None,
            "threshold": rule.duplicate_threshold,
            "margin": round(best.score - rule.duplicate_threshold, DIGITS) if best else None,
            "confidence": _confidence(best, rule),
            "evidence": evidence,
            "neighbours": neighbours,
            "model_id": item.model_id,
            "sha256": item.sha256,
        }
    )


def _rank(item: Item, found: Sequence[Iterable[Hit]], rule: Rule) -> Sequence[_Ranked]:
    """The rows nearest to each view, by score.

    Of each view as many as are asked of the index, and chosen as the index chooses: which of them the window still
    holds, and how many more it would have offered, must not matter.
    """
    views = [(view, _candidates(item, view, hits)) for view, hits in zip(item.views, found, strict=True)]
    _, of_whole = views[0]
    if item.row_id in map(_row_id, of_whole):
        # The same bytes: no panel has more to say.
        views = views[:1]
    best: dict[str, _Ranked] = {}
    for view, candidates in views:
        for hit in best_hits(candidates, rule.neighbours_max):
            ranked = _scored(view, hit)
            if hit.row_id == item.row_id:
                ranked = ranked._replace(differs=False, below=-_SAME_BYTES, embedding=_SAME_BYTES)
            known = best.get(hit.row_id)
            if known is not None:
                agreed = ranked.agreed or known.agreed
                ranked = (ranked if ranked.below < known.below else known)._replace(agreed=agreed)
            best[hit.row_id] = ranked
    return sorted(best.values())[: rule.neighbours_max]


def _candidates(item: Item, view: View, hits: Iterable[Hit]) -> list[Hit]:
    """A view's. The item's own row is the same bytes: similarity 1, and none of a panel's concern."""
    known = list(hits)
    others = set(map(_tenant, known)) - {item.tenant}
    if others:
        raise ValueError(f"candidates of tenants {sorted(others)} for an item of tenant {item.tenant!r}")
    if item.row_id not in map(_row_id, known):
        return known
    if view.box is not None:
        return [hit for hit in known if hit.row_id != item.row_id]
    return [hit.at(_SAME_BYTES) if hit.row_id == item.row_id else hit for hit in known]


def _kind(best: _Ranked | None, rule: Rule) -> VerdictKind:
    if best is None or (best.differs and best.score < rule.review_threshold):
        return VerdictKind.UNIQUE
    if not best.differs or best.score >= rule.duplicate_threshold:
        return VerdictKind.DUPLICATE
    return VerdictKind.REVIEW


def _confidence(best: _Ranked | None, rule: Rule) -> float:
    if best is None:
        return 0.0
    if not best.differs:
        return 1.0
    return round(rule.calibration.confidence(best.score, agreed=best.agreed), DIGITS)


def _evidence(best: _Ranked, rule: Rule) -> list[Evidence]:
    fired = []
    if not best.differs:
        fired.append(Evidence.EXACT)
    enough = round(best.embedding, DIGITS) >= rule.duplicate_threshold
    if best.agreed or (best.score >= rule.duplicate_threshold and not enough):
        fired.append(Evidence.PERCEPTUAL)
    if enough:
        fired.append(Evidence.EMBEDDING)
    return fired
