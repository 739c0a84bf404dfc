"""R11: whatever tenants, ids and pictures: no match, hit or row over a tenant's border; a hostile name is refused or
kept apart, and never changes a filter or a partition.

Seeded: `derandomize` takes the same examples in every run.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cloudevents import raw_tenant
from schemas.events import Fingerprint, FingerprintFailure, LedgerEntry, Reason
from stream.errors import ItemError
from stream.judge import Judge, Knowledge, Work
from stream.ledger import remember
from stream.memory import Memory
from stream.neighbours import filters
from stream.neighbours.memory import MemoryIndex
from stream.tenants import parse_tenant, partition_of
from stream.window import Window
from tests.contract.index_cases import DIMENSION, make_row
from tests.fuzz.borders import check_borders
from tests.fuzz.names import HOSTILE, VALID
from tests.support.made import at_similarity, fingerprint, random_vector, rule_of

seeded = settings(derandomize=True, max_examples=150, deadline=5_000)
PARTITIONS = 12
tenants = st.sampled_from(VALID)
raw_names = st.one_of(
    st.sampled_from(HOSTILE),
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda name: name.encode("utf-8", "surrogatepass")),
    st.sampled_from(VALID).flatmap(
        lambda name: st.binary(min_size=1, max_size=3).map(lambda tail: name.encode() + tail)
    ),
)
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


@seeded
@given(raw_names)
def test_a_hostile_name_is_refused_or_kept_apart(raw: bytes) -> None:
    """A name that is taken is taken letter for letter: its filter names it alone, its partition is that of its raw
    bytes, and no folding or normalising of another name makes it.

    Breaks, each tried: strip the name in `parse_tenant`; partition by the lower case of the raw bytes.
    """
    headers = [("ce_specversion", b"1.0"), ("ce_tenant", raw)]
    assert raw_tenant(headers, b"") == raw
    assert partition_of(raw, PARTITIONS) == xxhash.xxh64_intdigest(raw) % PARTITIONS
    try:
        name = parse_tenant(raw, None)
    except ItemError as error:
        assert error.reason is Reason.BAD_TENANT  # noqa: PT017 - both outcomes are right
        return
    assert name.encode() == raw
    assert filters.tenant_rows(name) == f'tenant == "{name}"'
    assert name != filters.LINKS_TENANT
    assert {unicodedata.normalize(form, name) for form in FORMS} == {name}


uploads = st.lists(
    st.tuples(tenants, st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([1.0, 0.9, 0.7])),
    min_size=1,
    max_size=25,
)


@seeded
@given(uploads, st.lists(st.integers(1, 6), max_size=12))
def test_no_verdict_crosses_a_border(made: list[tuple[str, str, int, float]], cuts: list[int]) -> None:
    """Uploads of all tenants in one partition, the same ids and pictures among them, judged in batches of any size: a
    match, a neighbour, a repeat and an id conflict are always the tenant's own. Breaks, each tried: one window for all
    tenants; `upload_key` without the tenant; `row_id` without the tenant.
    """
    ledger: list[LedgerEntry] = []
    judge = Judge(Window(1_000), Memory(1_000), rule_of)
    works = []
    for offset, (tenant, name, picture, similarity) in enumerate(made):
        vector = at_similarity(random_vector(picture), similarity, seed=picture)
        content = (picture, similarity)
        works.append(Work(0, offset, fingerprint(offset, vector, tenant=tenant, upload_id=name, content=content)))
    seen: dict[str, dict[str, str]] = {}
    while works:
        size = cuts.pop() if cuts else 3
        batch, works = works[:size], works[size:]
        known = {work.offset: judge.repeated_entry(work) for work in batch}
        entries = {(0, place): ledger[place] for place in known.values() if place is not None}
        for outcome in judge.judge(batch, Knowledge(entries=entries)):
            entry = outcome.entry
            assert entry is not None
            stays_at_home(outcome.work.record, entry, seen)
            remember(entry, len(ledger), judge.window, judge.memory)
            ledger.append(entry)


def stays_at_home(
    record: Fingerprint | FingerprintFailure, entry: LedgerEntry, seen: dict[str, dict[str, str]]
) -> None:
    """What was decided speaks of the tenant's own earlier uploads only.

    Args:
        seen: per tenant the SHA-256 by upload id, of what was judged before.
    """
    assert record.tenant is not None
    assert record.upload_id is not None
    own = seen.setdefault(record.tenant, {})
    if entry.dead_letter is not None:
        assert entry.dead_letter.reason is Reason.ID_CONFLICT
        assert record.upload_id in own
    verdict = entry.verdict
    if verdict is None:
        return
    assert verdict.tenant == record.tenant
    assert verdict.repeat == (record.upload_id in own)
    near = [*verdict.neighbours, *([verdict.match] if verdict.match is not None else [])]
    assert {one.upload_id for one in near} <= set(own)
    # Whose first picture it is, that tenant has nothing near.
    assert own or (verdict.match is None and verdict.score is None)
    own.setdefault(record.upload_id, verdict.sha256)


rows_made = st.lists(st.tuples(tenants, st.integers(0, 7)), min_size=1, max_size=30)


@seeded
@given(rows_made, tenants, st.integers(0, 7))
def test_the_index_shows_a_tenant_its_own_rows_only(made: list[tuple[str, int]], tenant: str, number: int) -> None:
    """The memory twin: a search for a tenant gives its rows, an id its tenant's row, whoever has the same picture.
    Milvus: `tests/contract/test_index_borders.py`. Break, tried: search all tenants' rows.
    """
    index = MemoryIndex(neighbours_max=50, dimension=DIMENSION)
    rows = [make_row(n, name) for name, n in made]
    check_borders(index, rows, tenant, number, index.insert(rows))
