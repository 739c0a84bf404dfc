"""CloudEvents 1.0 over Kafka: binary mode read and written, structured mode read.

Written here rather than taken from the `cloudevents` package: that one guesses the payload's type
(image bytes that happen to be UTF-8 become a string), decodes the record's key, falls back from
broken JSON to text and raises whatever its parsers raise. An untrusted edge needs one error.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.events import TRACEPARENT_CHARS_MAX, UPLOAD_ID_CHARS_MAX, DeadLetter, UploadReference, Verdict

Headers = list[tuple[str, bytes]]
RawHeaders = Iterable[tuple[str, bytes | None]]

SPEC_VERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
UPLOAD_TYPE = "dejaview.upload.v1"
VERDICT_TYPE = "dejaview.verdict.v1"
DEAD_LETTER_TYPE = "dejaview.deadletter.v1"
HEADER_VALUE_BYTES_MAX = 4096
TRUNCATED_HEADER_CHARS = 128
TRUNCATED_HEADERS = 16
# A reference is two short fields: a URI of 4,096 characters, each escaped, takes 49 kB. Parsed, and told what is wrong
# with it, 20 MB of JSON took 2 GB.
REFERENCE_BYTES_MAX = 65_536
# Values of a structured event. Base64 holds none of the characters that are counted; 20 MB of `[],` took 0.5 GB.
STRUCTURED_VALUES_MAX = 10_000

_time = TypeAdapter(datetime)
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class BadEvent(ValueError):
    """The record is no CloudEvent that dejaview reads; the message says which part and why."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload event: the picture's bytes, or a reference to them."""

    upload_id: str
    event_time: datetime | None
    traceparent: str | None
    content: bytes | UploadReference


def raw_tenant(headers: RawHeaders, value: bytes | None) -> bytes | None:
    """The bytes of the `tenant` extension, before any judgement of them; None when there are none.

    The partitioner needs them for every record, also for one that is no valid event.
    """
    attributes = _binary_attributes(headers)
    if "specversion" in attributes or not _is_structured(headers):
        return attributes.get("tenant")
    try:
        tenant = _structured_object(value)["tenant"]
    except (BadEvent, KeyError):
        return None
    return str(tenant).encode("utf-8", "surrogatepass")


def claimed_id(headers: RawHeaders, value: bytes | None) -> str | None:
    """The upload id a record claims, if it can be read at all; for its dead letter."""
    try:
        attributes = _attributes(headers, value)[0]
        return _text(attributes, "id")[:UPLOAD_ID_CHARS_MAX]
    except BadEvent:
        return None


def read_upload(headers: RawHeaders, value: bytes | None) -> Upload:
    """Read an upload from a Kafka record, binary or structured mode.

    Raises:
        BadEvent: an attribute or the payload is missing or malformed.
    """
    attributes, payload = _attributes(headers, value)
    if _text(attributes, "specversion") != SPEC_VERSION:
        raise BadEvent(f"ce_specversion must be {SPEC_VERSION}")
    for name in ("type", "source"):
        _text(attributes, name)
    upload_id = _text(attributes, "id")
    if len(upload_id) > UPLOAD_ID_CHARS_MAX:
        raise BadEvent(f"ce_id has {len(upload_id)} characters, at most {UPLOAD_ID_CHARS_MAX} are allowed")
    content_type = _text(attributes, "datacontenttype").split(";")[0].strip().lower()
    return Upload(
        upload_id=upload_id,
        event_time=_event_time(attributes),
        traceparent=_traceparent(attributes),
        content=_content(content_type, payload),
    )


def upload_headers(
    upload_id: str, tenant: str, content_type: str, source: str, time: datetime | None = None
) -> Headers:
    """Binary-mode headers of an upload event."""
    return _headers(
        {
            "type": UPLOAD_TYPE,
            "source": source,
            "id": upload_id,
            "time": (time or datetime.now(UTC)).isoformat(),
            "tenant": tenant,
        },
        content_type,
    )


def verdict_headers(verdict: Verdict, event_id: str, traceparent: str | None) -> Headers:
    """Binary-mode headers of a verdict. `event_id` is the upload record's position: one verdict each."""
    attributes = {"type": VERDICT_TYPE, "source": "dejaview", "id": event_id, "tenant": verdict.tenant}
    return _headers({**attributes, "subject": verdict.upload_id, "traceparent": traceparent})


def dead_letter_headers(dead_letter: DeadLetter, traceparent: str | None) -> Headers:
    """Binary-mode headers of a dead letter."""
    attributes = {"type": DEAD_LETTER_TYPE, "source": "dejaview", "id": dead_letter.source.key}
    return _headers({**attributes, "subject": dead_letter.upload_id, "traceparent": traceparent})


def truncated(headers: RawHeaders) -> dict[str, str]:
    """A record's headers, few and short enough for a dead letter."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if len(kept) == TRUNCATED_HEADERS:
            break
        text = (value or b"")[:TRUNCATED_HEADER_CHARS].decode("utf-8", "replace")
        kept[name[:TRUNCATED_HEADER_CHARS]] = text
    return kept


def _headers(attributes: Mapping[str, str | None], content_type: str = "application/json") -> Headers:
    headers = [("ce_specversion", SPEC_VERSION.encode()), ("content-type", content_type.encode())]
    headers += [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value]
    return headers


def _binary_attributes(headers: RawHeaders) -> dict[str, bytes]:
    """Last one wins, as in Kafka's own `lastHeader`."""
    attributes: dict[str, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower == "content-type":
            attributes["datacontenttype"] = value or b""
        elif lower.startswith("ce_"):
            attributes[lower[3:]] = value or b""
    return attributes


def _is_structured(headers: RawHeaders) -> bool:
    content_type = _binary_attributes(headers).get("datacontenttype", b"")
    return content_type.lower().startswith(STRUCTURED.encode())


def _attributes(headers: RawHeaders, value: bytes | None) -> tuple[Mapping[str, Any], Any]:
    """The event's attributes and its payload (bytes, or parsed JSON of structured mode)."""
    binary = _binary_attributes(headers)
    if "specversion" in binary:
        return binary, value or b""
    if not _is_structured(headers):
        raise BadEvent(f"no CloudEvent: neither ce_specversion nor content-type {STRUCTURED}")
    event = _structured_object(value)
    if "data_base64" not in event:
        return event, event.get("data")
    try:
        return event, base64.b64decode(event["data_base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadEvent(f"data_base64 is not base64: {error}") from None


def _structured_object(value: bytes | None) -> dict[str, Any]:
    raw = value or b""
    if sum(map(raw.count, (b",", b"[", b"{"))) > STRUCTURED_VALUES_MAX:
        raise BadEvent(f"the structured event holds more than {STRUCTURED_VALUES_MAX} values")
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"the structured event is not JSON: {type(error).__name__}") from None
    if not isinstance(event, dict):
        raise BadEvent("the structured event is not a JSON object")
    return event


def _optional_text(attributes: Mapping[str, Any], name: str) -> str | None:
    raw = attributes.get(name)
    if raw is None:
        return None
    if isinstance(raw, bytes):
        try:
            raw = raw[: HEADER_VALUE_BYTES_MAX + 1].decode("utf-8")
        except UnicodeDecodeError:
            raise BadEvent(f"ce_{name} is not UTF-8") from None
    if not isinstance(raw, str) or len(raw) > HEADER_VALUE_BYTES_MAX:
        raise BadEvent(f"ce_{name} is not a string of at most {HEADER_VALUE_BYTES_MAX} characters")
    if _CONTROL.search(raw):
        raise BadEvent(f"ce_{name} holds control characters")
    return raw


def _traceparent(attributes: Mapping[str, Any]) -> str | None:
    """A trace is an extra: one that is too long is left out, as the W3C's recommendation has it."""
    text = _optional_text(attributes, "traceparent")
    return text if text and len(text) <= TRACEPARENT_CHARS_MAX else None


def _text(attributes: Mapping[str, Any], name: str) -> str:
    text = _optional_text(attributes, name)
    if not text:
        shown = "content-type" if name == "datacontenttype" else f"ce_{name}"
        raise BadEvent(f"{shown} is missing")
    return text


def _event_time(attributes: Mapping[str, Any]) -> datetime | None:
    text = _optional_text(attributes, "time")
    if text is None:
        return None
    try:
        time = _time.validate_python(text)
    except ValidationError:
        raise BadEvent("ce_time is not an RFC 3339 time") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _content(content_type: str, payload: Any) -> bytes | UploadReference:
    if content_type.startswith("image/"):
        if not isinstance(payload, bytes) or not payload:
            raise BadEvent("an image/* event carries the image's bytes (data_base64 in structured mode)")
        return payload
    if content_type != "application/json":
        raise BadEvent(f"content-type must be image/* or application/json, got {content_type[:80]!r}")
    if isinstance(payload, bytes) and len(payload) > REFERENCE_BYTES_MAX:
        raise BadEvent(f"a reference has {len(payload)} bytes, at most {REFERENCE_BYTES_MAX} are allowed")
    try:
        if isinstance(payload, bytes):
            return UploadReference.model_validate_json(payload)
        return UploadReference.model_validate(payload)
    except (ValidationError, RecursionError) as error:
        raise BadEvent(f'the reference must be {{"uri": …, "sha256"?: …}}: {_first_fault(error)}') from None


def _first_fault(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "too deeply nested"
    first = error.errors(include_input=False, include_url=False)[0]
    # A place is the sender's own key, as long as they like.
    where = ".".join(str(part) for part in first["loc"])[:80] or "the value"
    return f"{where}: {first['msg']}"
