"""What one ledger partition's judge remembers against repeats: the last entries, oldest forgotten first."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

from schemas.events import LedgerEntry, SourcePosition


@dataclass(frozen=True, slots=True)
class Known:
    """An upload id that was judged: where its ledger entry is, and what its bytes were."""

    offset: int
    sha256: str


def _key(kind: bytes, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, person=kind).digest()


def source_key(source: SourcePosition) -> bytes:
    return _key(b"source", source.key)


def upload_key(tenant: str, upload_id: str) -> bytes:
    return _key(b"upload", f"{tenant}/{upload_id}")


class Memory:
    """Source positions and upload ids of at most `entries_max` ledger entries of one partition."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._order: deque[tuple[int, bytes, bytes | None]] = deque()
        self._sources: set[bytes] = set()
        self._uploads: dict[bytes, Known] = {}

    def __len__(self) -> int:
        return len(self._order)

    def knows_source(self, source: SourcePosition) -> bool:
        """Whether this upload record was decided already: an encoder's repeat."""
        return source_key(source) in self._sources

    def upload(self, tenant: str, upload_id: str) -> Known | None:
        """The ledger entry that holds this upload id's verdict. A dead letter's id is not known."""
        return self._uploads.get(upload_key(tenant, upload_id))

    def add(self, entry: LedgerEntry, offset: int) -> None:
        """Remember a committed ledger entry; forget the oldest beyond the limit."""
        source = source_key(entry.source)
        upload = None
        if entry.verdict is not None:
            upload = upload_key(entry.verdict.tenant, entry.verdict.upload_id)
            self._uploads[upload] = Known(offset, entry.verdict.sha256)
        self._sources.add(source)
        self._order.append((offset, source, upload))
        while len(self._order) > self._entries_max:
            self._forget()

    def _forget(self) -> None:
        offset, source, upload = self._order.popleft()
        self._sources.discard(source)
        if upload is not None and (known := self._uploads.get(upload)) is not None and known.offset == offset:
            del self._uploads[upload]
