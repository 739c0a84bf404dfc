"""R7: an `s3://` reference reads objects of listed buckets, within one deadline and a size limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from schemas.events import Reason, UploadReference
from stream.config import IntakeSettings
from stream.errors import ItemError, SettingError, StoreUnavailable
from stream.intake.fetch import Fetcher
from tests.unit.intake_server import BYTES_MAX, CONTENT, Server


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Server, Fetcher]]:
    """A store on this machine: an operator's endpoint may be internal."""
    running = Server()
    yield running, s3_fetcher(running.server_port)
    running.close()


def s3_fetcher(port: int, **changes: object) -> Fetcher:
    settings: dict[str, object] = {
        "s3_buckets": ["photos"],
        "s3_endpoint": f"http://127.0.0.1:{port}",
        "s3_access_key_id": SecretStr("id"),
        "s3_secret_access_key": SecretStr("secret"),
        "bytes_max": BYTES_MAX,
    }
    return Fetcher(IntakeSettings(**{**settings, **changes}))


def s3_read(s3: tuple[Server, Fetcher], key: str, bucket: str = "photos") -> bytes:
    s3[0].paths.clear()
    return s3[1].fetch(UploadReference(uri=f"s3://{bucket}/{key}"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("b/\u00fc c.jpg", "b/%C3%BC%20c.jpg"),
        ("a?b#c%2e", "a%3Fb%23c%252e"),
        ("a//b.jpg", "a//b.jpg"),
    ],
)
def test_s3_reads(s3: tuple[Server, Fetcher], key: str, path: str) -> None:
    """An object of a listed bucket is read, its key as written, signed. Break: parse the key as a URL."""
    assert s3_read(s3, key) == CONTENT
    asked, _, query = s3[0].paths[0].partition("?")
    assert asked == f"/photos/{path}"
    assert "X-Amz-Signature=" in query
    assert "secret" not in query


@pytest.mark.parametrize(
    ("bucket", "key", "expected"),
    [
        ("other", "a.jpg", Reason.URI_REFUSED),
        ("Photos", "a.jpg", Reason.URI_REFUSED),
        ("photos:80", "a.jpg", Reason.URI_REFUSED),
        ("user@photos", "a.jpg", Reason.URI_REFUSED),
        ("photos", "../other/a.jpg", Reason.URI_REFUSED),
        ("photos", "x" * 1025, Reason.URI_REFUSED),
        ("photos", "", Reason.BAD_REFERENCE),
        ("", "a.jpg", Reason.BAD_REFERENCE),
        ("photos", "404-NoSuchKey", Reason.URI_NOT_FOUND),
        ("photos", "404-NoSuchBucket", Reason.URI_NOT_FOUND),
        ("photos", "403-AccessDenied", Reason.URI_REFUSED),
        ("photos", "large", Reason.TOO_LARGE),
        ("photos", "endless", Reason.TOO_LARGE),
    ],
)
def test_s3_item_errors(s3: tuple[Server, Fetcher], bucket: str, key: str, expected: Reason) -> None:
    """What is refused, absent or too large is the item's. Break: allow buckets by prefix."""
    with pytest.raises(ItemError) as caught:
        s3_read(s3, key, bucket)
    assert caught.value.reason is expected


@pytest.mark.parametrize(
    "key",
    ["503-SlowDown", "500-InternalError", "403-InvalidAccessKeyId", "403-RequestTimeTooSkewed", "301-Moved", "cut"],
)
def test_s3_store_errors(s3: tuple[Server, Fetcher], key: str) -> None:
    """A busy store, and our own wrong key, clock or region, cost no upload. One request each: ENCODE retries.
    Break: take every 403 for the item's.
    """
    with pytest.raises(StoreUnavailable):
        s3_read(s3, key)
    assert len(s3[0].paths) == 1


def test_s3_slow_drip(s3: tuple[Server, Fetcher]) -> None:
    """The deadline holds for S3 too. Break: read with boto3."""
    fetcher = s3_fetcher(s3[0].server_port, fetch_timeout_s=0.3)
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="fetch_timeout_s"):
        fetcher.fetch(UploadReference(uri="s3://photos/drip"))
    assert time.monotonic() - start < 3


def test_s3_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a credential, none, or no boto3 refuses to start and says what to do. Break: sign with what there is."""
    with pytest.raises(SettingError, match="belong together"):
        s3_fetcher(1, s3_access_key_id=SecretStr(""))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(SettingError, match="no S3 credentials"):
        s3_fetcher(1, s3_access_key_id=SecretStr(""), s3_secret_access_key=SecretStr(""))
    monkeypatch.delitem(sys.modules, "stream.intake.s3", raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingError, match=r"dejaview\[s3\]"):
        s3_fetcher(1)
