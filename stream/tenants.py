"""Tenants: who owns a picture, which partition judges it, and what its row is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

import xxhash

from schemas.events import TENANT_PATTERN, Reason
from stream.errors import ItemError

_TENANT = re.compile(TENANT_PATTERN[:-1] + r"\Z")


def parse_tenant(raw: bytes | None, allowed: Collection[str] | None) -> str:
    """The tenant named by the raw `ce_tenant` bytes.

    Args:
        raw: the header's bytes, None when there is none.
        allowed: the closed list, or None when tenants are open.

    Raises:
        ItemError: missing or malformed (`bad_tenant`), not on the list (`unlisted_tenant`).
    """
    if not raw:
        raise ItemError(Reason.BAD_TENANT, "the event has no ce_tenant; every upload names its tenant")
    try:
        tenant = raw.decode("ascii")
    except UnicodeDecodeError:
        tenant = ""
    if not _TENANT.match(tenant):
        raise ItemError(Reason.BAD_TENANT, f"ce_tenant must match {TENANT_PATTERN}, got {raw[:80]!r}")
    if allowed is not None and tenant not in allowed:
        raise ItemError(Reason.UNLISTED_TENANT, f"tenant {tenant!r} is not in `tenants.allowed`")
    return tenant


def partition_of(raw: bytes, partitions: int) -> int:
    """The partition of `fingerprints` and `ledger` that judges a tenant: xxh64(raw) mod partitions."""
    return xxhash.xxh64_intdigest(raw) % partitions


def row_id(tenant: str, sha256: str) -> str:
    """The primary key of a tenant's picture: BLAKE2b-128 over (tenant, SHA-256), as hex.

    A byte-identical copy has the same id, another tenant's never.
    """
    digest = hashlib.blake2b(digest_size=16)
    name = tenant.encode()
    digest.update(len(name).to_bytes(2, "big") + name + bytes.fromhex(sha256))
    return digest.hexdigest()
