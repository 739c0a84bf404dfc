"""What was answered so far, read from `topics.backfilled`: the state of a backfill is the log. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.cloudevents import DEAD_LETTER_TYPE
from schemas.events import DeadLetter, SourcePosition, Verdict, VerdictKind
from stream.kafka import Record

_KEY_BYTES = 8
_GROWTH = 65_536


@dataclass(slots=True)
class Answers:
    """Which uploads of the backfill topic have an answer, who needs none any more, and the duplicates.

    `topic_id` of `topics.backfill`: answers to a topic of that name that was deleted count for what they know, not for
    what waits. About 60 bytes an upload, and 200 a duplicate.
    """

    topic_id: str
    answered: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    _known: set[bytes] = field(default_factory=set)
    _places: dict[int, bytearray] = field(default_factory=dict)

    def take(self, records: Iterable[Record]) -> None:
        """Answers as they come; one that comes twice (delivery at_least_once) counts once."""
        for record in records:
            content = record.value or b""
            if dict(record.headers).get("ce_type") == DEAD_LETTER_TYPE.encode():
                letter = DeadLetter.model_validate_json(content)
                if self._is_new(letter.source):
                    self.reasons[letter.reason] += 1
                continue
            verdict = Verdict.model_validate_json(content)
            if verdict.trace is not None and self._is_new(verdict.trace.source):
                self._verdict(verdict)

    def duplicates_in_order(self) -> list[dict[str, Any]]:
        """By tenant and upload id: partitions are read in no fixed order, and two reports are to be compared."""
        return sorted(self.duplicates, key=lambda one: (one["tenant"], one["upload_id"]))

    def knows(self, tenant: str | None, upload_id: str | None) -> bool:
        """Whether this upload has a verdict. One with a dead letter has not: what was mended is judged."""
        return tenant is not None and upload_id is not None and _key(tenant, upload_id) in self._known

    def _verdict(self, verdict: Verdict) -> None:
        key = _key(verdict.tenant, verdict.upload_id)
        if verdict.repeat and key in self._known:
            return
        self._known.add(key)
        self.kinds[verdict.verdict] += 1
        if verdict.verdict is not VerdictKind.UNIQUE:
            match = verdict.match
            self.duplicates.append(
                {
                    "tenant": verdict.tenant,
                    "upload_id": verdict.upload_id,
                    "verdict": str(verdict.verdict),
                    "of": match.upload_id if match else None,
                    "score": verdict.score,
                    "confidence": verdict.confidence,
                    "evidence": list(verdict.evidence),
                }
            )

    def _is_new(self, source: SourcePosition) -> bool:
        """Whether this place has no answer yet. Those of a deleted topic of the same name are only known."""
        if source.topic_id != self.topic_id:
            return True
        places = self._places.setdefault(source.partition, bytearray())
        if source.offset >= len(places):
            places.extend(bytes(source.offset + _GROWTH - len(places)))
        if places[source.offset]:
            return False
        places[source.offset] = 1
        self.answered += 1
        return True


def _key(tenant: str, upload_id: str) -> bytes:
    return hashlib.blake2b(f"{tenant}\0{upload_id}".encode("utf-8", "replace"), digest_size=_KEY_BYTES).digest()
