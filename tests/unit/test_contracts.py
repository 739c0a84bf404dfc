"""What was written stays readable, and what comes from outside is read strictly."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas import asyncapi
from schemas.cloudevents import (
    BadEvent,
    claimed_id,
    dead_letter_headers,
    raw_tenant,
    read_upload,
    truncated,
    upload_headers,
    verdict_headers,
)
from schemas.events import (
    DeadLetter,
    Fingerprint,
    FingerprintFailure,
    LedgerEntry,
    Reason,
    UploadReference,
    Verdict,
    decode_embedding,
    encode_embedding,
    fingerprint_record,
)
from stream.decision import Item, Rule, judge
from stream.ledger import hit_of
from tests.support.made import Line

GOLDEN = Path(asyncapi.__file__).parent / "golden"
MODELS: dict[str, type[BaseModel]] = {
    "upload-reference": UploadReference,
    "fingerprint": Fingerprint,
    "fingerprint-failure": FingerprintFailure,
    "ledger-duplicate": LedgerEntry,
    "ledger-unique": LedgerEntry,
    "ledger-dead-letter": LedgerEntry,
    "verdict-duplicate": Verdict,
    "verdict-unique": Verdict,
    "deadletter": DeadLetter,
}
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]


def binary(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    headers: dict[str, bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_type": b"x",
        "ce_source": b"/s",
        "ce_id": b"1",
        "ce_tenant": b"t",
        "content-type": b"image/jpeg",
    }
    headers.update({name.replace("content_type", "content-type"): value for name, value in changes.items()})
    return [(name, value) for name, value in headers.items() if value is not None]


def test_asyncapi_is_what_the_models_say() -> None:
    """The published document cannot drift. Break: rename a field without `python -m schemas.asyncapi`."""
    assert asyncapi.FILE.read_text() == asyncapi.render()


def without_nulls(value: Any) -> Any:
    """A field that came later is absent in an older message."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v*/*.json")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_golden_messages_are_read_for_ever(path: Path) -> None:
    """A message of every released version decodes, and nothing in it is lost. Break: rename `margin`."""
    golden = json.loads(path.read_text())
    if path.stem == "upload-image":
        headers = [(name, value.encode()) for name, value in golden["headers"].items()]
        assert read_upload(headers, b"\xff\xd8").upload_id == "photo-2"
        return
    message = MODELS[path.stem].model_validate(golden["value"])
    again = json.loads(message.model_dump_json())
    for name, value in golden["value"].items():
        assert without_nulls(again[name]) == without_nulls(value), name


def test_golden_scores_keep_the_rule() -> None:
    """Of v2 all pictures have one bias, so score = similarity - bias. Break: a score by hand."""
    bias = json.loads((GOLDEN / "v2" / "fingerprint.json").read_text())["value"]["bias"]
    for stem in ("verdict-duplicate", "verdict-unique"):
        verdict = Verdict.model_validate(json.loads((GOLDEN / "v2" / f"{stem}.json").read_text())["value"])
        assert verdict.similarity is not None
        assert verdict.score is not None
        assert verdict.score == pytest.approx(verdict.similarity - bias)
        assert verdict.margin == pytest.approx(verdict.score - verdict.threshold)


def test_golden_collage_is_still_judged_so() -> None:
    """v3: the fingerprint of a collage, held against the ledger's row of one of its pictures, gives the same verdict.

    The thresholds are the message's own. Break: any term of the score, or the panel of the match.
    """
    golden = {stem: json.loads((GOLDEN / "v3" / f"{stem}.json").read_text())["value"] for stem in (
        "fingerprint", "ledger-unique", "verdict-duplicate")}  # fmt: skip
    item = Item.of(Fingerprint.model_validate(golden["fingerprint"]))
    entry, expected = (
        LedgerEntry.model_validate(golden["ledger-unique"]),
        Verdict.model_validate(golden["verdict-duplicate"]),
    )
    row = hit_of(entry, 3)
    assert row is not None
    assert entry.representative is not None
    embedding = decode_embedding(entry.representative.embedding)
    near = [[row.at(float(view.embedding @ embedding))] for view in item.views]
    rule = Rule(expected.threshold, expected.threshold, 10, Line())
    verdict = judge(item, near[0], rule, near[1:])
    ignored = {"confidence", "trace"}
    assert verdict.model_dump(exclude=ignored) == expected.model_dump(exclude=ignored)


def test_golden_headers_are_still_written() -> None:
    """Consumers route on headers. Break: drop `subject` from `verdict_headers`."""
    golden = {
        stem: json.loads((GOLDEN / "v1" / f"{stem}.json").read_text()) for stem in ("verdict-duplicate", "deadletter")
    }
    verdict = Verdict.model_validate(golden["verdict-duplicate"]["value"])
    headers = golden["verdict-duplicate"]["headers"]
    written = verdict_headers(verdict, headers["ce_id"], headers["ce_traceparent"])
    assert {name: value.decode() for name, value in written} == headers
    headers = golden["deadletter"]["headers"]
    written = dead_letter_headers(DeadLetter.model_validate(golden["deadletter"]["value"]), headers["ce_traceparent"])
    assert {name: value.decode() for name, value in written} == headers


def test_a_newer_writers_field_is_ignored() -> None:
    """A rolling upgrade does not stop the older reader. Break: extra="forbid" on `Contract`."""
    golden = json.loads((GOLDEN / "v1" / "verdict-duplicate.json").read_text())["value"]
    Verdict.model_validate({**golden, "new_field": 1})


def test_binary_and_structured_mode_say_the_same() -> None:
    """One upload, either mode. Break: read `data` before `data_base64`."""
    one = read_upload(binary(), b"\xff\xd8")
    event = {
        "specversion": "1.0",
        "type": "x",
        "source": "/s",
        "id": "1",
        "tenant": "t",
        "datacontenttype": "image/jpeg",
    }
    value = json.dumps({**event, "data_base64": base64.b64encode(b"\xff\xd8").decode()}).encode()
    assert read_upload(STRUCTURED, value) == one
    assert raw_tenant(STRUCTURED, value) == raw_tenant(binary(), b"") == b"t"
    reference = {"uri": "s3://b/k"}
    structured = json.dumps({**event, "datacontenttype": "application/json", "data": reference}).encode()
    in_binary = read_upload(binary(content_type=b"application/json"), json.dumps(reference).encode())
    assert read_upload(STRUCTURED, structured) == in_binary


@pytest.mark.parametrize(
    ("headers", "value", "says"),
    [
        ([], b"x", "no CloudEvent"),
        (binary(ce_specversion=b"0.3"), b"x", "specversion"),
        (binary(ce_id=None), b"x", "ce_id is missing"),
        (binary(ce_id=b""), b"x", "ce_id is missing"),
        (binary(ce_id=b"x" * 257), b"x", "257"),
        (binary(ce_id=b"\xff"), b"x", "UTF-8"),
        (binary(ce_id=b"a\x00b"), b"x", "control"),
        (binary(ce_type=None), b"x", "ce_type"),
        (binary(ce_time=b"yesterday"), b"x", "ce_time"),
        (binary(content_type=None), b"x", "content-type"),
        (binary(content_type=b"text/html"), b"x", "content-type"),
        (binary(), b"", "bytes"),
        (binary(), None, "bytes"),
        (binary(content_type=b"application/json"), b"{", "reference"),
        (binary(content_type=b"application/json"), b"[" * 100_000, "reference"),
        (binary(content_type=b"application/json"), b'{"uri": ""}', "uri"),
        (binary(content_type=b"application/json"), b'{"uri": "s3://b/k", "sha256": "xyz"}', "sha256"),
        (binary(content_type=b"application/json"), b'{"uri": "s3://b/k", "size": 1}', "size"),
        (STRUCTURED, b"[]", "object"),
        (STRUCTURED, b"{", "JSON"),
        (STRUCTURED, b'{"specversion": 1, "id": {}}', "specversion"),
        (STRUCTURED, b'{"specversion": "1.0", "type": "x", "source": "s", "id": "1", "data_base64": "?"}', "base64"),
    ],
)
def test_a_bad_event_is_named(headers: list[tuple[str, bytes]], value: bytes | None, says: str) -> None:
    """R5: every malformed upload is a `BadEvent` that names the part. Break: drop the control-character check."""
    with pytest.raises(BadEvent, match=says):
        read_upload(headers, value)


names = st.sampled_from(
    ["ce_specversion", "ce_id", "ce_tenant", "ce_type", "ce_source", "ce_time", "content-type", "x"]
)
values = st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"1.0", b"image/png", b"application/json"]))


@given(st.lists(st.tuples(names, values), max_size=10), st.one_of(st.none(), st.binary(max_size=60)))
def test_any_record_is_read_or_refused(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    """R5: no record raises anything but `BadEvent`. Break: let UnicodeDecodeError through."""
    for mode in (headers, [*headers, *STRUCTURED]):
        raw_tenant(mode, value)
        claimed_id(mode, value)
        truncated(mode)
        try:
            read_upload(mode, value)
        except BadEvent as error:
            assert str(error)  # noqa: PT017 - both outcomes are right


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
attributes = st.dictionaries(
    st.sampled_from(
        ["specversion", "id", "type", "source", "tenant", "time", "data", "data_base64", "datacontenttype"]
    ),
    json_values | st.sampled_from(["1.0", "image/png", "application/json"]),
)


@given(attributes)
def test_any_structured_event_is_read_or_refused(event: dict[str, object]) -> None:
    """R5: attributes of any type. Break: assume that `id` is a string."""
    value = json.dumps(event).encode()
    raw_tenant(STRUCTURED, value)
    claimed_id(STRUCTURED, value)
    try:
        read_upload(STRUCTURED, value)
    except BadEvent as error:
        assert str(error)  # noqa: PT017 - both outcomes are right


def test_dead_letter_headers_are_bounded() -> None:
    """R8: a record with endless headers makes a small dead letter. Break: drop TRUNCATED_HEADERS."""
    kept = truncated([(f"h{n}" * 100, b"x" * 10_000) for n in range(100)])
    assert len(kept) <= 16
    assert sum(len(name) + len(value) for name, value in kept.items()) < 16 * 300


def test_upload_headers_are_read_back() -> None:
    """`send` writes what ENCODE reads. Break: drop `ce_type`."""
    upload = read_upload(upload_headers("id", "t", "image/png", "/s"), b"x")
    assert (upload.upload_id, upload.content) == ("id", b"x")


def test_embeddings_survive_the_wire() -> None:
    """float32 bit for bit. Break: dump as float16."""
    vector = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    assert (decode_embedding(encode_embedding(vector)) == vector).all()
    for bad in ("", "?", base64.b64encode(b"\0" * 1020).decode(), base64.b64encode(b"\xff" * 1024).decode()):
        with pytest.raises(ValueError, match=r"embedding|base64"):
            decode_embedding(bad)


def test_a_fingerprint_must_have_length_one() -> None:
    """A similarity above 1 would be a verdict about nothing. Break: drop `_unit_length`."""
    golden = json.loads((GOLDEN / "v1" / "fingerprint.json").read_text())["value"]
    zero = encode_embedding(np.zeros(256, np.float32))
    with pytest.raises(ValidationError, match="norm"):
        fingerprint_record.validate_python({**golden, "embedding": zero})


def test_reasons_are_bounded() -> None:
    """A metric label for each reason, and not more than a dashboard can show. Break: make reasons free text."""
    assert len(Reason) < 32
