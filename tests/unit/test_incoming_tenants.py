"""Tenants never see each other, and a fingerprint is judged only where it belongs."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Fingerprint, FingerprintFailure, Reason
from stream.errors import ItemError
from stream.incoming import Intake
from stream.kafka import Record
from stream.tenants import parse_tenant, partition_of, row_id
from tests.support.made import MODEL_ID, fingerprint, random_vector, sha

PARTITIONS = 12
INTAKE = Intake("fingerprints-1", PARTITIONS, MODEL_ID, None)


def record(made: Fingerprint | bytes, partition: int | None = None) -> Record:
    value = made if isinstance(made, bytes) else made.model_dump_json().encode()
    right = 0 if isinstance(made, bytes) else partition_of(made.tenant.encode(), PARTITIONS)
    return Record("dejaview.fingerprints", right if partition is None else partition, 5, 1_000, [], value)


def test_a_fingerprint_in_its_partition_is_judged() -> None:
    """The right one passes unchanged. Break: partition by the upload id."""
    made = fingerprint(0, random_vector(0))
    assert INTAKE.work(record(made)).record == made


def test_the_partitioner_is_xxh64_of_the_raw_tenant() -> None:
    """R3: producers in any language choose the same judge. Break: use Python's hash."""
    assert partition_of(b"acme", 12) == xxhash.xxh64_intdigest(b"acme") % 12


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_fingerprint_elsewhere_is_a_dead_letter(partition: int) -> None:
    """R3: a foreign producer with another partitioner cannot give a tenant two judges. Break: drop the check."""
    made = fingerprint(0, random_vector(0))
    got = INTAKE.work(record(made, partition)).record
    if partition == partition_of(b"t", PARTITIONS):
        assert got == made
    else:
        assert isinstance(got, FingerprintFailure)
        assert got.reason is Reason.WRONG_PARTITION
        assert (got.source, got.upload_id) == (made.source, made.upload_id)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"kind": "other"}', b"\xff"])
def test_garbage_on_the_fingerprints_topic_is_a_dead_letter(value: bytes) -> None:
    """R5: nothing on the topic stops the partition. Break: let ValidationError through."""
    got = INTAKE.work(record(value)).record
    assert isinstance(got, FingerprintFailure)
    assert got.reason is Reason.BAD_FINGERPRINT
    assert (got.source.topic_id, got.source.offset) == ("fingerprints-1", 5)


def test_another_models_fingerprint_is_told_apart() -> None:
    """A vector of another space is never compared. Break: compare nothing in `is_foreign`."""
    work = INTAKE.work(record(fingerprint(0, random_vector(0), model_id="other")))
    assert INTAKE.is_foreign(work)
    failure = INTAKE.foreign(work).record
    assert isinstance(failure, FingerprintFailure)
    assert failure.reason is Reason.FOREIGN_MODEL
    assert not INTAKE.is_foreign(INTAKE.work(record(fingerprint(0, random_vector(0)))))


def test_a_closed_list_refuses_others() -> None:
    """R11: an unlisted tenant is refused by ENCODE's parser and by DECIDE. Break: ignore `allowed`."""
    closed = Intake("f", PARTITIONS, MODEL_ID, ["acme"])
    got = closed.work(record(fingerprint(0, random_vector(0)))).record
    assert isinstance(got, FingerprintFailure)
    assert got.reason is Reason.UNLISTED_TENANT
    assert parse_tenant(b"acme", ["acme"]) == "acme"


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b" ",
        b"_links",
        b"-a",
        b".a",
        b"a b",
        b'a"',
        b"a' or 1==1",
        b"a\n",
        b"\xd0\xb0cme",
        b"\xff",
        b"a" * 65,
        b"*",
    ],
)
def test_a_malformed_tenant_is_refused(raw: bytes | None) -> None:
    """R11: missing or malformed never means all tenants. Break: `$` for `\\Z` (a trailing newline passes)."""
    with pytest.raises(ItemError) as caught:
        parse_tenant(raw, None)
    assert caught.value.reason is Reason.BAD_TENANT


tenants = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(tenants, tenants, st.integers(), st.integers())
def test_row_ids_differ_by_tenant_and_by_bytes(a: str, b: str, x: int, y: int) -> None:
    """R11: no tenant can overwrite another's row. Break: hash the SHA-256 alone."""
    assert (row_id(a, sha(x)) == row_id(b, sha(y))) == ((a, x) == (b, y))
