"""R5, R8: what ENCODE holds is counted; a store that is away is waited for until its limit, not longer, not shorter."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest

from schemas.cloudevents import STRUCTURED, Headers, upload_headers
from schemas.events import Reason, UploadReference
from stream.config import IntakeSettings
from stream.errors import StoreUnavailable
from stream.kafka import Record
from stream.prepare import HEADER_BYTES, Prepared, Preparer
from tests.support.deployment import until
from tests.unit.intake_children import photo

LIMIT_S = 1.0
BYTES_MAX = 1_000_000
REFERENCE = upload_headers("x", "t", "application/json", "/tests")


class Away:
    """A fetcher whose store is away until `back`."""

    def __init__(self) -> None:
        self.back = False
        self.asked_s: list[float] = []

    def fetch(self, _reference: UploadReference) -> bytes:
        self.asked_s.append(time.monotonic())
        if not self.back:
            raise StoreUnavailable("the store answered 503")
        return photo()


@pytest.fixture
def away() -> Away:
    return Away()


@pytest.fixture(params=[60.0])
def preparer(away: Away, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Preparer]:
    """Its parameter is `fetch_retry_max_s`."""
    monkeypatch.setattr("stream.prepare.Fetcher", lambda _settings: away)
    settings = IntakeSettings(fetch_retry_max_s=request.param, bytes_max=BYTES_MAX, decoders=1)
    made = Preparer(settings, "uploads-1", None)
    yield made
    made.close()


def record(headers: Headers, value: bytes, key: bytes | None = None, offset: int = 0) -> Record:
    return Record("uploads", 0, offset, 1, headers, value, key)


def finished(preparer: Preparer) -> Prepared:
    (item,) = preparer.done(30)
    return item


@pytest.mark.parametrize("preparer", [LIMIT_S], indirect=True)
def test_a_store_is_given_up_at_its_limit_and_not_before(preparer: Preparer, away: Away) -> None:
    """The last try is at the limit itself; then the upload has its dead letter, and nothing is said to be away.

    Breaks, each tried: give up when the next wait would pass the limit (after 0.6 s here); leave the trouble.
    """
    begun = time.monotonic()
    preparer.submit(record(REFERENCE, b'{"uri": "s3://b/k"}'))
    item = finished(preparer)
    assert item.failure is not None
    assert item.failure.reason is Reason.STORE_UNAVAILABLE
    assert away.asked_s[-1] - begun + 0.01 >= LIMIT_S
    assert preparer.trouble is None


def test_another_uploads_success_does_not_hide_the_trouble(preparer: Preparer, away: Away) -> None:
    """An upload that needs no store says nothing of the one another waits for. Break, tried: one field for all."""
    preparer.submit(record(REFERENCE, b'{"uri": "s3://b/k"}'))
    preparer.submit(record(upload_headers("y", "t", "image/jpeg", "/tests"), photo(), offset=1))
    assert finished(preparer).upload_id == "y"
    assert preparer.trouble == "the store answered 503"
    away.back = True
    assert finished(preparer).decoded is not None
    assert preparer.trouble is None


def test_headers_and_key_are_charged(preparer: Preparer) -> None:
    """20 MB in headers, or in the key, are 20 MB in flight. Break, tried: charge the value alone."""
    usual = upload_headers("x", "t", "image/jpeg", "/tests")
    value = photo()
    plain = preparer.submit(record(usual, value)).charged_bytes
    assert plain >= len(value)
    assert preparer.submit(record([*usual, ("x", bytes(2_000_000))], value)).charged_bytes >= plain + 2_000_000
    assert preparer.submit(record(usual, value, bytes(3_000_000))).charged_bytes == plain + 3_000_000
    many = [("", b"")] * 10_000
    assert preparer.submit(record([*usual, *many], value)).charged_bytes == plain + 10_000 * HEADER_BYTES


def test_an_image_beside_its_base64_is_charged_twice(preparer: Preparer) -> None:
    """A structured event holds its image twice until it is decoded. Break, tried: charge the value alone."""
    event = {
        "specversion": "1.0",
        "type": "x",
        "source": "/s",
        "id": "1",
        "tenant": "t",
        "datacontenttype": "image/jpeg",
    }
    value = json.dumps({**event, "data_base64": base64.b64encode(photo()).decode()}).encode()
    item = preparer.submit(record([("content-type", STRUCTURED.encode())], value))
    assert item.charged_bytes == item.record_bytes + len(photo())


def test_a_bug_in_what_makes_dead_letters_ends_the_stage(preparer: Preparer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread did not expect comes out of `done`, wherever it happened: swallowed, the upload would hold its
    partition for ever. Break, tried: call `_fail` in an `except` beside the one that catches bugs.
    """

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(preparer, "_fail", fail)
    preparer.submit(record(upload_headers("x", "t", "image/jpeg", "/tests"), b"no picture"))
    until(lambda: not preparer._broken.empty(), 30)
    with pytest.raises(RuntimeError, match="a bug"):
        preparer.done(0)
