"""The window forgets only what the index shows; the memory forgets only the oldest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import LedgerEntry, Verdict, VerdictKind
from stream.memory import Memory
from stream.window import VECTORS_AT_ONCE, Window
from tests.support.made import fingerprint, hit, random_vector, sha


def filled(rows: list[tuple[int, str]], rows_max: int = 10_000) -> Window:
    window = Window(rows_max)
    for offset, tenant in rows:
        window.append(hit(1.0, name=f"row{offset}", tenant=tenant, offset=offset), random_vector(offset))
    return window


rows = st.lists(st.sampled_from("abc"), max_size=150).map(lambda tenants: [(2 * n, t) for n, t in enumerate(tenants)])


@given(rows, st.integers(0, 320))
def test_exactly_the_rows_from_the_pin_on_are_found(made: list[tuple[int, str]], pin: int) -> None:
    """Rows at or above the pin stay, for their own tenant only. Break: `<=` for `<` in `drop_below`."""
    window = filled(made)
    window.drop_below(pin)
    assert len(window) == sum(offset >= pin for offset, _ in made)
    for tenant in "abc":
        query = np.stack([random_vector(7)])
        (found,) = window.nearest(tenant, query, ["none"], 1_000)
        assert {h.ledger_offset for h in found} == {o for o, t in made if t == tenant and o >= pin}
        for h in found:
            assert h.similarity == pytest.approx(float(random_vector(h.ledger_offset) @ query[0]), abs=1e-5)


def test_window_keeps_its_rows_when_it_grows_and_shrinks() -> None:
    """Appending and dropping for long loses nothing. Break: forget `_start` in `_make_room`."""
    window = Window(10_000)
    for offset in range(1_000):
        window.append(hit(1.0, name=f"row{offset}", offset=offset), random_vector(offset))
        window.drop_below(offset - 90)
        (found,) = window.nearest("t", random_vector(offset)[None], ["none"], 1)
        assert found[0].ledger_offset == offset


def test_more_vectors_than_are_compared_at_once() -> None:
    """Each has its own answer, in order. Break: give every piece the first piece's row ids."""
    window = filled([(n, "t") for n in range(50)])
    queries = [n % 50 for n in range(2 * VECTORS_AT_ONCE + 5)]
    own = [hit(1.0, name=f"row{(n + 1) % 50}", tenant="t").row_id for n in queries]
    found = window.nearest("t", np.stack([random_vector(n) for n in queries]), own, 1)
    assert [{h.upload_id for h in hits} for hits in found] == [{f"row{n}", f"row{(n + 1) % 50}"} for n in queries]


def test_the_row_of_the_same_id_is_found_beside_the_nearest() -> None:
    """R2: a byte-identical representative is found whatever is nearer. Break: drop `own` in `nearest`."""
    window = filled([(n, "t") for n in range(50)])
    own = hit(1.0, name="row3", tenant="t").row_id
    (found,) = window.nearest("t", random_vector(40)[None], [own], 1)
    assert {h.upload_id for h in found} == {"row40", "row3"}


def test_rows_must_come_in_ledger_order() -> None:
    """Dropping from the old end is right only in order. Break: drop the check in `append`."""
    window = filled([(5, "t")])
    with pytest.raises(ValueError, match="after 5"):
        window.append(hit(1.0, offset=5), random_vector(1))


def test_room_counts_down_and_is_never_made() -> None:
    """A full window refuses nothing and evicts nothing; it says so. Break: drop the oldest when full."""
    window = filled([(n, "t") for n in range(12)], rows_max=10)
    assert (window.room, len(window), window.first_offset) == (-2, 12, 0)


def entry(offset: int, upload_id: str, content: str = "x") -> LedgerEntry:
    record = fingerprint(offset, random_vector(offset))
    verdict = Verdict(
        tenant="t",
        upload_id=upload_id,
        verdict=VerdictKind.UNIQUE,
        threshold=0.8,
        confidence=0.0,
        model_id="m",
        sha256=sha(content),
    )
    return LedgerEntry(source=record.source, source_topic="u", upload_timestamp_ms=0, verdict=verdict)


@given(st.lists(st.integers(0, 30), max_size=120), st.integers(1, 40))
def test_memory_holds_the_last_entries(ids: list[int], entries_max: int) -> None:
    """The last N entries are known, an id by its newest place; older ones are not. Break: `pop()` in `_forget`."""
    memory = Memory(entries_max)
    made = [entry(offset, f"u{upload}") for offset, upload in enumerate(ids)]
    for offset, one in enumerate(made):
        memory.add(one, offset)
    kept = range(max(0, len(ids) - entries_max), len(ids))
    assert len(memory) == len(kept)
    for offset, one in enumerate(made):
        assert memory.knows_source(one.source) == (offset in kept)
    for upload in set(ids):
        newest = max(offset for offset, u in enumerate(ids) if u == upload)
        known = memory.upload("t", f"u{upload}")
        assert (known.offset if known else None) == (newest if newest in kept else None)
        assert memory.upload("other", f"u{upload}") is None
