"""The memory formula's figures for window and memory rows hold against what is really allocated."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ops.capacity import MEMORY_ENTRY_BYTES, WINDOW_ROW_BYTES, memory_bound_bytes, worker_bound_bytes
from ops.cli.main import main
from schemas.events import UPLOAD_ID_CHARS_MAX, LedgerEntry, Verdict, VerdictKind
from stream.config import IntakeSettings, Settings
from stream.kafka import Record
from stream.memory import Memory
from stream.neighbours.protocol import Hit
from stream.prepare import Preparer
from stream.service import ALL_STAGES, Stage, parse_stages
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
    return replace(
        hit(1.0),
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


def test_a_structured_event_is_charged_with_its_record_and_its_bytes() -> None:
    """R8: the picture inside a JSON record is a second copy, and counts. Break: charge the record alone."""
    content = b"no picture" * 100
    event = {
        "specversion": "1.0",
        "type": "t",
        "source": "/s",
        "id": "u",
        "tenant": "t",
        "datacontenttype": "image/jpeg",
        "data_base64": base64.b64encode(content).decode(),
    }
    value = json.dumps(event).encode()
    record = Record("uploads", 0, 0, 0, [("content-type", b"application/cloudevents+json")], value)
    preparer = Preparer(IntakeSettings(decoders=1), "topic", None)
    try:
        assert preparer.submit(record).charged_bytes == len(value) + len(content)
    finally:
        preparer.close()


def test_the_command_shows_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    """`dejaview config --memory` ends with the bound of every stage. Break: leave the decoders out of the sum."""
    assert main(["config", "--memory", "--intake.decoders", "3"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1].split()
    settings = Settings(intake=IntakeSettings(decoders=3))
    expected = [
        memory_bound_bytes(settings, stages) // 1_000_000
        for stages in map(parse_stages, (["encode"], ["decide"], ["index"]))
    ]
    assert last == ["sum", *map(str, [*expected, memory_bound_bytes(settings, ALL_STAGES) // 1_000_000])]


def test_every_limit_is_in_the_formula() -> None:
    """A larger limit is a larger bound; a stage that does not run costs nothing. Break: drop a part of the sum."""
    settings = Settings()
    bound = memory_bound_bytes(settings, ALL_STAGES)
    larger = {
        "encode": {"in_flight_bytes_max": 512_000_000, "in_flight_items_max": 512, "batch_items_max": 64},
        "decide": {"window_rows_max": 60_000, "memory_entries_max": 300_000, "batch_items_max": 512},
        "ledger_index": {"batch_items_max": 1_024},
        "intake": {"decoders": 3, "decode_memory_bytes": 2_000_000_000, "fetchers": 9, "bytes_max": 30_000_000},
        "topics": {"partitions": 13},
    }
    for section, values in larger.items():
        for name, value in values.items():
            changed = getattr(settings, section).model_copy(update={name: value})
            assert memory_bound_bytes(settings.model_copy(update={section: changed}), ALL_STAGES) > bound, name
    assert sum(worker_bound_bytes(settings, [stage]) for stage in Stage) > worker_bound_bytes(settings, ALL_STAGES)
    assert memory_bound_bytes(settings, [Stage.DECIDE], partitions=1) < memory_bound_bytes(settings, [Stage.DECIDE])
