"""What of a ledger entry becomes a row of the index. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import LedgerEntry, decode_embedding
from stream.kafka import Record
from stream.ledger import hit_of, parse
from stream.neighbours.protocol import Row

ENTRY_BYTES_MAX = 60_000


def rows_of(records: Sequence[Record]) -> list[Row]:
    """The index rows of ledger records, each row id once."""
    rows: dict[str, Row] = {}
    for record in records:
        entry = parse(record)
        hit = hit_of(entry, record.offset)
        representative = entry.representative
        if hit is None or representative is None or hit.row_id in rows:
            continue
        rows[hit.row_id] = Row(
            row_id=hit.row_id,
            tenant=hit.tenant,
            upload_id=hit.upload_id,
            sha256=hit.sha256,
            pdq=hit.pdq,
            pdq_quality=hit.pdq_quality,
            bias=hit.bias,
            verdict=hit.verdict,
            ledger_partition=record.partition,
            ledger_offset=record.offset,
            entry=entry_text(entry),
            embedding=decode_embedding(representative.embedding),
        )
    return list(rows.values())


def entry_text(entry: LedgerEntry) -> str:
    """A ledger entry as a row keeps it: without the vector, and without neighbours where long ids make it too large."""
    text = entry.model_copy(update={"representative": None}).model_dump_json(exclude_none=True)
    if len(text.encode()) <= ENTRY_BYTES_MAX or entry.verdict is None:
        return text
    shorter = entry.verdict.model_copy(update={"neighbours": []})
    return entry.model_copy(update={"representative": None, "verdict": shorter}).model_dump_json(exclude_none=True)
