"""What the verdicts were worth: each against what is known of its upload, and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ops.demo.photos import Photo
from ops.demo.uploads import Kind, Upload
from schemas.events import DeadLetter, Verdict, VerdictKind

COPIES = frozenset({Kind.EDITED, Kind.IDENTICAL})


class Outcome(StrEnum):
    NEW = "new"  # a photograph, judged unique
    FOUND = "found"  # a copy, judged a duplicate of its photograph or of another copy of it
    REVIEW = "review"  # left to a person
    MISSED = "missed"  # a copy, judged unique
    FALSE = "false"  # judged a duplicate of something that it is not
    REPEATED = "repeated"  # the same upload again, recognised
    ALIKE = "alike"  # a folder's own picture, judged a duplicate: nobody told whether rightly
    SECOND_VIEW = "second_view"  # counted neither way
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Judged:
    """An upload and what came back. `latency_s`: from the record's Kafka timestamp until the answer was read."""

    upload: Upload
    verdict: Verdict | None
    dead_letter: DeadLetter | None
    latency_s: float
    outcome: Outcome
    match: Upload | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Outcomes by what was sent, and how fast it went. `judging_s`: from the first upload sent to the last answer."""

    sent: int
    judged: int
    photographs: Mapping[Outcome, int]
    copies: Mapping[Outcome, int]
    repeats: Mapping[Outcome, int]
    judging_s: float
    latency_p50_s: float
    latency_p99_s: float

    @property
    def lost(self) -> int:
        """Uploads without verdict and without dead letter."""
        return self.sent - self.judged

    @property
    def images_per_s(self) -> float:
        return self.judged / self.judging_s if self.judging_s > 0 else 0.0

    def count(self, outcome: Outcome) -> int:
        """Photographs and copies of this outcome."""
        return self.photographs[outcome] + self.copies[outcome]


class Assessor:
    """Knows what was sent. `distinct`: no two of the photographs show the same thing."""

    def __init__(self, *, distinct: bool) -> None:
        self._distinct = distinct
        self._uploads: dict[str, Upload] = {}
        self._alike: dict[str, str] = {}

    def expect(self, upload: Upload) -> None:
        self._uploads.setdefault(upload.upload_id, upload)

    def assess(
        self, upload: Upload, verdict: Verdict | None, dead_letter: DeadLetter | None, latency_s: float
    ) -> Judged:
        matched = verdict.match if verdict is not None else None
        match = self._uploads.get(matched.upload_id) if matched is not None else None
        outcome = Outcome.DEAD_LETTER if verdict is None else self._outcome(upload, verdict, match)
        if outcome is Outcome.ALIKE and match is not None:
            self._alike[upload.photo.scene] = self._scene(match.photo)
        return Judged(upload, verdict, dead_letter, latency_s, outcome, match)

    def _outcome(self, upload: Upload, verdict: Verdict, match: Upload | None) -> Outcome:
        if upload.kind is Kind.SECOND_VIEW:
            return Outcome.SECOND_VIEW
        if upload.kind is Kind.REPEAT:
            return Outcome.REPEATED if verdict.repeat else Outcome.MISSED
        if verdict.verdict is VerdictKind.REVIEW:
            return Outcome.REVIEW
        if upload.kind is Kind.ORIGINAL:
            return self._outcome_of_original(verdict)
        if verdict.verdict is VerdictKind.UNIQUE:
            return Outcome.MISSED
        right = match is not None and self._scene(match.photo) == self._scene(upload.photo)
        return Outcome.FOUND if right else Outcome.FALSE

    def _outcome_of_original(self, verdict: Verdict) -> Outcome:
        if verdict.verdict is VerdictKind.UNIQUE:
            return Outcome.NEW
        return Outcome.FALSE if self._distinct else Outcome.ALIKE

    def _scene(self, photo: Photo) -> str:
        """A folder's picture that was judged a duplicate shares its match's scene: so do its copies."""
        return self._alike.get(photo.scene, photo.scene)


def totals(judged: Sequence[Judged], sent: int, judging_s: float) -> Totals:
    latencies = sorted(one.latency_s for one in judged)
    return Totals(
        sent=sent,
        judged=len(judged),
        photographs=_counts(judged, {Kind.ORIGINAL}),
        copies=_counts(judged, COPIES),
        repeats=_counts(judged, {Kind.REPEAT}),
        judging_s=judging_s,
        latency_p50_s=percentile(latencies, 0.50),
        latency_p99_s=percentile(latencies, 0.99),
    )


def _counts(judged: Iterable[Judged], kinds: Collection[Kind]) -> Counter[Outcome]:
    return Counter(one.outcome for one in judged if one.upload.kind in kinds)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` of all at or below it; 0 for none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * round(share * 100) // 100)
    return ordered[max(0, rank - 1)]


def per_edit(judged: Iterable[Judged]) -> dict[str, Counter[Outcome]]:
    """Outcomes of edited and identical copies by edit."""
    counts: dict[str, Counter[Outcome]] = {}
    for one in judged:
        if one.upload.kind in COPIES:
            counts.setdefault(one.upload.edit, Counter())[one.outcome] += 1
    return counts
