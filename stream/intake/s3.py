"""`s3://bucket/key` references: objects of listed buckets, at AWS or any other endpoint. The only boto3.

boto3 finds the credentials and signs; the object itself is read by `http_get`, whose deadline holds for every byte.
(boto3's own reader restarts its time-out with each byte, so a dripping server could hold it for hours.) The endpoint is
the operator's, from the settings, so its address is not checked and may be internal. Proxies are not used.
"""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

from schemas.events import Reason
from stream.config import IntakeSettings
from stream.errors import ItemError, SettingError, StoreUnavailable
from stream.intake.deadline import Deadline
from stream.intake.http_get import OK, Answer, Target, get
from stream.intake.https import resolve, resolve_within
from stream.secrets import read_secret

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
except ImportError as error:
    raise SettingError("intake.s3_buckets is set and boto3 is missing: pip install 'dejaview[s3]'") from error

KEY_BYTES_MAX = 1024
SIGNED_FOR_S = 300
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_ABSENT = {404, 410}
# 400s and 403s that tell of our own credentials, clock, region or line, not of this object.
_OURS = {
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_SERVER_ERRORS = range(500, 600)
_REFUSED = {400, 401, 403, 405}


class S3Store:
    """Reads objects of `intake.s3_buckets`."""

    def __init__(self, settings: IntakeSettings) -> None:
        """Look for the credentials: the settings', or where boto3 looks when those are empty.

        Raises:
            SettingError: there are none, or half of them.
        """
        self._buckets = frozenset(settings.s3_buckets)
        self._bytes_max = settings.bytes_max
        self._tls = ssl.create_default_context()
        self._client = _client(settings)

    def read(self, uri: str, deadline: Deadline) -> bytes:
        """See `fetch.Store`."""
        bucket, key = self._object(uri)
        target = self._target(bucket, key)
        addresses = resolve_within(resolve, target.host, target.port, deadline)
        answer = get(target, addresses, deadline, self._bytes_max)
        if answer.status == OK:
            return answer.body
        raise _translated(answer)

    def _object(self, uri: str) -> tuple[str, str]:
        """Bucket and key. A key is taken as it is written, `?`, `#` and `%` included."""
        rest = uri[len("s3:") :]
        bucket, _, key = rest.removeprefix("//").partition("/")
        if not rest.startswith("//") or not bucket or not key:
            raise ItemError(Reason.BAD_REFERENCE, "an S3 reference is s3://bucket/key")
        if bucket not in self._buckets:
            raise ItemError(Reason.URI_REFUSED, "the bucket is not in intake.s3_buckets")
        # A proxy before the store may tidy the path up, and end in another bucket.
        if len(key.encode()) > KEY_BYTES_MAX or any(part in (".", "..") for part in key.split("/")):
            raise ItemError(Reason.URI_REFUSED, f"a key has {KEY_BYTES_MAX} bytes at most and no . or .. in its path")
        return bucket, key

    def _target(self, bucket: str, key: str) -> Target:
        """The signed address of an object. No request is made, unless boto3 renews its credentials."""
        try:
            signed = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_FOR_S
            )
        except BotoCoreError as error:
            raise StoreUnavailable(f"the S3 request cannot be signed: {error}") from error
        parts = urlsplit(signed)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return Target(parts.hostname or "", port, f"{parts.path}?{parts.query}", self._tls if secure else None)


def _client(settings: IntakeSettings) -> Any:
    key_id = settings.s3_access_key_id.get_secret_value()
    secret = read_secret(
        settings.s3_secret_access_key, settings.s3_secret_access_key_file, "intake.s3_secret_access_key_file"
    )
    if bool(key_id) != bool(secret):
        raise SettingError("intake.s3_access_key_id and intake.s3_secret_access_key belong together; set both or none")
    own: dict[str, Any] = {"aws_access_key_id": key_id, "aws_secret_access_key": secret} if key_id else {}
    session = boto3.Session(region_name=settings.s3_region, **own)
    if session.get_credentials() is None:
        raise SettingError("there are no S3 credentials: set intake.s3_access_key_id, or give boto3 some of its own")
    config = Config(signature_version="s3v4", s3={"addressing_style": "path" if settings.s3_endpoint else "virtual"})
    try:
        return session.client("s3", endpoint_url=settings.s3_endpoint, config=config)
    except ValueError:
        # boto3's complaint quotes the address, and with it what may be a password.
        raise SettingError("intake.s3_endpoint: boto3 takes no such address; write https://host:port") from None


def _translated(answer: Answer) -> ItemError | StoreUnavailable:
    found = _CODE.search(answer.body)
    code = found[1].decode() if found else ""
    said = f"the store answered {answer.status} {code}".rstrip()
    if answer.status in _ABSENT:
        return ItemError(Reason.URI_NOT_FOUND, said)
    if answer.status in _REFUSED and code not in _OURS:
        return ItemError(Reason.URI_REFUSED, said)
    if answer.status in _SERVER_ERRORS:
        return StoreUnavailable(said)
    return StoreUnavailable(f"{said}; check intake.s3_region, the credentials and the clock")
