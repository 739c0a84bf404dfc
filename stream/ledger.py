"""The ledger as DECIDE reads it: a partition's state rebuilt from the log, and single entries for repeats."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import LedgerEntry, decode_embedding
from stream.errors import BrokerUnavailable, LedgerGap
from stream.kafka import LogReader, Record
from stream.memory import Memory
from stream.neighbours.protocol import Hit
from stream.progress import Progress
from stream.window import Window

READ_RECORDS = 2_000


def parse(record: Record) -> LedgerEntry:
    """A ledger record. Only dejaview writes here, so a malformed one stops the stage (ValueError)."""
    return LedgerEntry.model_validate_json(record.value or b"")


def hit_of(entry: LedgerEntry, offset: int) -> Hit | None:
    """The representative in a ledger entry as a candidate, None for duplicates and dead letters."""
    representative, verdict = entry.representative, entry.verdict
    if representative is None or verdict is None:
        return None
    return Hit(
        row_id=representative.row_id,
        tenant=verdict.tenant,
        upload_id=verdict.upload_id,
        sha256=verdict.sha256,
        pdq=representative.pdq,
        pdq_quality=representative.pdq_quality,
        bias=representative.bias,
        verdict=verdict.verdict,
        ledger_offset=offset,
        similarity=1.0,
    )


def remember(entry: LedgerEntry, offset: int, window: Window, memory: Memory) -> None:
    """A committed entry enters the memory and, as a representative, the window."""
    memory.add(entry, offset)
    hit = hit_of(entry, offset)
    if hit is not None and entry.representative is not None:
        window.append(hit, decode_embedding(entry.representative.embedding))


def check_progress(progress: Progress | None, low: int, high: int) -> None:
    """Refuse an index that needs, or claims, entries that the ledger does not have.

    Raises:
        LedgerGap: with what to do.
    """
    if progress is None:
        if low > 0:
            raise LedgerGap(
                f"the ledger begins at offset {low} and the index holds nothing of what came before: ledger entries "
                "were deleted. Restore the index from a backup, or start with a new ledger and a new collection."
            )
        return
    if not low <= progress.offset <= high:
        raise LedgerGap(
            f"the index holds partition {progress.ledger_partition} of the ledger up to offset {progress.offset}, the "
            f"ledger has {low} to {high}. Restore the ledger, or set `index.collection` to a new name."
        )


@dataclass(slots=True)
class Restore:
    """One partition's window and memory, being rebuilt a slice at a time so that the group is kept polled.

    Reads from the older of progress and the memory's start to the high watermark, and is over when
    the read-committed position has passed that: a dead owner's transaction is settled by then.
    """

    reader: LogReader
    partition: int
    start: int
    end: int
    window_start: int
    window: Window
    memory: Memory
    _started: int = -1

    def step(self, wait_s: float) -> bool:
        """Read a slice; True when all is read.

        Raises:
            BrokerUnavailable: ask again.
        """
        if self.start >= self.end:
            return True
        if self.reader.starts != self._started:
            self.reader.start(self.partition, self.start)
            self._started = self.reader.starts
        records, end = self.reader.read(READ_RECORDS, wait_s)
        for record in records:
            if record.partition != self.partition or record.offset < self.start:
                continue
            self._take(record)
            self.start = record.offset + 1
        if end is not None:
            self.start = max(self.start, end)
        return self.start >= self.end

    def _take(self, record: Record) -> None:
        entry = parse(record)
        if record.offset >= self.window_start:
            remember(entry, record.offset, self.window, self.memory)
        else:
            self.memory.add(entry, record.offset)


def read_entries(reader: LogReader, partition: int, offsets: Iterable[int], timeout_s: float) -> dict[int, LedgerEntry]:
    """Ledger entries by offset, for senders' repeats. Near ones are read in one go.

    Raises:
        BrokerUnavailable: not all came in time.
    """
    found: dict[int, LedgerEntry] = {}
    deadline_s = time.monotonic() + timeout_s
    position: int | None = None
    for offset in sorted(set(offsets)):
        if position is None or not position <= offset <= position + READ_RECORDS:
            reader.start(partition, offset)
            position = offset
        while offset not in found:
            records, _ = reader.read(1, 0.1)
            for record in records:
                position = record.offset + 1
                if record.offset == offset:
                    found[offset] = parse(record)
            if offset not in found and (time.monotonic() > deadline_s or position > offset):
                raise BrokerUnavailable(f"ledger entry {partition}:{offset} was not read in {timeout_s:g} s")
    return found
