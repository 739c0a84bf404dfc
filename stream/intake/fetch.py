"""From an upload's reference to its bytes: allow-lists, one deadline, a size limit, the sender's checksum.

What may be fetched is a matter of settings; nothing is, as long as none names a folder, a bucket or a host.
A store that is away raises `StoreUnavailable` at once: ENCODE decides how long to try.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from schemas.events import Reason, UploadReference
from stream.config import IntakeSettings
from stream.errors import ItemError
from stream.intake.deadline import Deadline
from stream.intake.files import FileStore
from stream.intake.https import HttpsStore

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)


class Store(Protocol):
    """Where the references of one scheme lead."""

    def read(self, uri: str, deadline: Deadline) -> bytes:
        """All bytes of an object.

        Raises:
            ItemError: refused, not there, or too large.
            StoreUnavailable: the store did not answer, or not in time.
        """


class Fetcher:
    """Fetches what references name. Thread-safe."""

    def __init__(self, settings: IntakeSettings, stores: Mapping[str, Store] | None = None) -> None:
        """Build the stores that the settings enable.

        Args:
            settings: the allow-lists and limits.
            stores: scheme to store, instead of those (tests).

        Raises:
            SettingError: a folder is missing, boto3 is, or a credential.
        """
        self._timeout_s = settings.fetch_timeout_s
        self._stores = dict(_stores(settings) if stores is None else stores)

    def fetch(self, reference: UploadReference) -> bytes:
        """The bytes that a reference names, `bytes_max` at most.

        Raises:
            ItemError: `bad_reference`, `uri_refused`, `uri_not_found`, `too_large` or `sha256_mismatch`.
            StoreUnavailable: try later.
        """
        store = self._stores.get(_scheme(reference.uri))
        if store is None:
            enabled = ", ".join(sorted(self._stores)) or "none"
            raise ItemError(Reason.URI_REFUSED, f"references of this scheme are not fetched; enabled: {enabled}")
        data = store.read(reference.uri, Deadline(self._timeout_s))
        if reference.sha256 is not None and hashlib.sha256(data).hexdigest() != reference.sha256:
            raise ItemError(Reason.SHA256_MISMATCH, "the fetched bytes have another SHA-256 than the reference says")
        return data


def _scheme(uri: str) -> str:
    match = _URI.match(uri)
    # A parser that quietly drops a tab or a line break would check another URI than the one that is fetched.
    if match is None or not uri.isprintable() or "\\" in uri:
        raise ItemError(Reason.BAD_REFERENCE, "the reference is no URI: scheme://place/path, printable characters only")
    return match[1].lower()


def _stores(settings: IntakeSettings) -> dict[str, Store]:
    stores: dict[str, Store] = {}
    if settings.file_roots:
        stores["file"] = FileStore(settings.file_roots, settings.bytes_max)
    if settings.s3_buckets:
        # Its module needs the extra `s3`.
        from stream.intake.s3 import S3Store  # noqa: PLC0415

        stores["s3"] = S3Store(settings)
    if settings.https_enabled:
        stores["https"] = HttpsStore(settings.https_hosts, settings.bytes_max)
    return stores
