"""A verdict or dead letter as `dejaview watch` shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from ops.cli.display import plain
from schemas.cloudevents import DEAD_LETTER_TYPE
from schemas.events import DeadLetter, Verdict
from stream.kafka import Record

Kind = Literal["verdict", "dead_letter"]

COLUMNS = ("time", "tenant", "upload", "verdict", "score", "margin", "confidence", "match", "evidence", "latency")


@dataclass(frozen=True, slots=True)
class Watched:
    """One event. `cells` has a text for each of `COLUMNS`; nothing in them steers a terminal."""

    kind: Kind
    tenant: str | None
    value: dict[str, Any]
    verdict: str
    cells: tuple[str, ...]

    def json_line(self) -> str:
        """The event's own JSON and its kind. ASCII only: ids come from outside."""
        return json.dumps({"kind": self.kind, **self.value})


def watched_of(record: Record, seen_ms: int) -> Watched | None:
    """A record of a verdict or dead-letter topic; None when it is neither.

    Args:
        seen_ms: when it was seen, since the epoch; the latency counts from the upload's Kafka timestamp to here.
    """
    content = record.value or b""
    dead = dict(record.headers).get("ce_type") == DEAD_LETTER_TYPE.encode()
    try:
        if dead:
            letter = DeadLetter.model_validate_json(content)
            return Watched(
                "dead_letter",
                letter.tenant,
                json.loads(content),
                "dead letter",
                _letter(letter, record.timestamp_ms, seen_ms),
            )
        verdict = Verdict.model_validate_json(content)
    except ValidationError:
        return None
    cells = _verdict(verdict, record.timestamp_ms, seen_ms)
    return Watched("verdict", verdict.tenant, json.loads(content), str(verdict.verdict), cells)


def _verdict(verdict: Verdict, written_ms: int, seen_ms: int) -> tuple[str, ...]:
    match = verdict.match.upload_id if verdict.match else ""
    started_ms = verdict.trace.upload_timestamp_ms if verdict.trace else None
    return _plain(
        _time(written_ms),
        verdict.tenant,
        verdict.upload_id,
        f"{verdict.verdict}{' (repeat)' if verdict.repeat else ''}",
        _number(verdict.score),
        _number(verdict.margin, sign="+"),
        f"{verdict.confidence:.3f}",
        match,
        " ".join([*verdict.evidence, *(["(a part of it)"] if verdict.panel else [])]),
        _latency(started_ms, seen_ms),
    )


def _letter(letter: DeadLetter, written_ms: int, seen_ms: int) -> tuple[str, ...]:
    why = f"{letter.reason}: {letter.detail}"
    return _plain(
        _time(written_ms), letter.tenant or "", letter.upload_id or "", "dead letter", "", "", "", why, "",
        _latency(letter.upload_timestamp_ms, seen_ms),
    )  # fmt: skip


def _plain(*cells: str) -> tuple[str, ...]:
    return tuple(plain(cell) for cell in cells)


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}"


def _latency(started_ms: int | None, seen_ms: int) -> str:
    if not started_ms:
        return ""
    return f"{max(0, seen_ms - started_ms):,} ms"
