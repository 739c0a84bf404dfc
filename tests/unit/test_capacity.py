"""The memory formula's figures for window and memory rows hold against what is really allocated."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ops.capacity import MEMORY_ENTRY_BYTES, WINDOW_ROW_BYTES
from schemas.events import UPLOAD_ID_CHARS_MAX, LedgerEntry, Verdict, VerdictKind
from stream.memory import Memory
from stream.neighbours.protocol import Hit
from stream.window import Window
from tests.support.made import fingerprint, hit, random_vector

ROWS = 4_000
# A bound that is far above the truth would hide a growth: it may be so much larger than what was measured at most.
SLACK_MAX = 3.0


class Traced:
    """Bytes allocated since the beginning."""

    byte_count = 0


@contextmanager
def traced() -> Iterator[Traced]:
    result = Traced()
    gc.collect()
    tracemalloc.start()
    try:
        yield result
        gc.collect()
        result.byte_count, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def fresh(n: int, tenant: str) -> Hit:
    """A row as the ledger gives it: no string is shared with another row."""
    digest = hashlib.sha256(str(n).encode()).hexdigest()
    return hit(1.0)._replace(
        row_id=digest[:32],
        tenant="".join(tenant),
        upload_id=f"{n:0{UPLOAD_ID_CHARS_MAX}d}".replace("0", "\N{GRINNING FACE}"),
        sha256=digest[::-1],
        pdq=digest[1:] + "0",
        bias=n / 7,
        ledger_offset=n,
    )


@pytest.mark.parametrize("tenants", [1, 6, ROWS])
def test_a_window_row_takes_no_more_than_the_formula_says(tenants: int) -> None:
    """R8: with the longest ids, for one tenant and for as many tenants as rows.

    Break: `_FIRST_ROWS` of 64: a tenant's first row takes 65 kB.
    """
    vector = random_vector(1)
    window = Window(ROWS)
    with traced() as used:
        for n in range(ROWS):
            window.append(fresh(n, f"tenant-{n % tenants}"), vector)
    assert used.byte_count / ROWS <= WINDOW_ROW_BYTES <= SLACK_MAX * used.byte_count / ROWS


def test_tenants_that_had_their_peaks_one_after_another_share_one_bound() -> None:
    """R8: a tenant that had all rows of the window and has one now holds no more than the one.

    Break: no trimming in `drop_first`.
    """
    vector = random_vector(1)
    window = Window(ROWS)
    n = 0
    with traced() as used:
        for tenant in range(10):
            for _ in range(ROWS // 2):
                window.append(fresh(n, f"tenant-{tenant}"), vector)
                n += 1
            # One row of every tenant is kept in the window: it cannot be forgotten as a whole.
            rows = window._tenants[f"tenant-{tenant}"]
            while len(rows) > 1:
                rows.drop_first()
    assert used.byte_count < 10 * ROWS * 300, "the order of rows alone remains"


def test_a_sliding_window_keeps_to_the_formula() -> None:
    """R8: rows that left are let go while others come. Break: keep dropped hits in `_make_room`."""
    vector = random_vector(1)
    window = Window(ROWS)
    with traced() as used:
        for n in range(4 * ROWS):
            window.append(fresh(n, f"tenant-{n % 6}"), vector)
            window.drop_below(n - ROWS + 1)
    assert len(window) == ROWS
    assert used.byte_count / ROWS <= WINDOW_ROW_BYTES


def test_a_memory_entry_takes_no_more_than_the_formula_says() -> None:
    """R8: after twice as many entries as it keeps. Break: do not `discard` in `_forget`."""
    memory = Memory(ROWS)
    record = fingerprint(0, random_vector(0))
    made = Verdict(
        tenant="t",
        upload_id="u",
        verdict=VerdictKind.UNIQUE,
        threshold=0.8,
        confidence=0.0,
        model_id="m",
        sha256=record.sha256,
    )
    with traced() as used:
        for n in range(2 * ROWS):
            digest = hashlib.sha256(str(n).encode()).hexdigest()
            verdict = made.model_copy(update={"upload_id": f"u{n}", "sha256": digest})
            source = record.source.model_copy(update={"offset": n})
            entry = LedgerEntry(source=source, source_topic="t", upload_timestamp_ms=n, verdict=verdict)
            memory.add(entry, n)
    assert len(memory) == ROWS
    assert used.byte_count / ROWS <= MEMORY_ENTRY_BYTES <= SLACK_MAX * used.byte_count / ROWS
