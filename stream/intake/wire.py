"""What a decoder process and its parent say to each other over two pipes.

Every message is a fixed header and a body whose length the header gives. Nothing is unpickled; the parent
checks each field, because a decoder process that met hostile bytes may answer anything.

    request   magic, sequence, length                the image's bytes
    ready     magic, sequence 0, kind, length 0
    decoded   magic, sequence, kind, length          length of the JSON (2 bytes), JSON, pixels
    refused   magic, sequence, kind, length          JSON
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

import numpy as np

from stream.intake.decode import FORMATS, REASONS, Decoded, UndecodableError
from stream.intake.limits import Limits

REQUEST = struct.Struct("!4sII")
REPLY = struct.Struct("!4sIBI")
MAGIC = b"djv1"

READY = 0
DECODED = 1
REFUSED = 2

SIDE = 224
PIXELS_BYTES = SIDE * SIDE * 3
JSON_BYTES_MAX = 4096
PDQ_QUALITY_MAX = 100
TIMINGS_MAX = 8
REPLY_BYTES_MAX = 2 + JSON_BYTES_MAX + PIXELS_BYTES

_PDQ = re.compile(r"[0-9a-f]{64}\Z")


class GarbledError(Exception):
    """The message is not one of the protocol's."""


def request_header(sequence: int, length: int) -> bytes:
    return REQUEST.pack(MAGIC, sequence, length)


def read_request_header(header: bytes, limits: Limits) -> tuple[int, int]:
    """Sequence and length of a request.

    Raises:
        GarbledError: the parent was interrupted in the middle of a message.
    """
    if len(header) != REQUEST.size:
        raise GarbledError("the request's header")
    magic, sequence, length = REQUEST.unpack(header)
    if magic != MAGIC or length > limits.bytes_max:
        raise GarbledError("the request's header")
    return sequence, length


def ready() -> bytes:
    return REPLY.pack(MAGIC, 0, READY, 0)


def decoded(sequence: int, picture: Decoded) -> bytes:
    fields = {
        "pdq": picture.pdq,
        "pdq_quality": picture.pdq_quality,
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "timings_s": dict(picture.timings_s),
    }
    meta = json.dumps(fields).encode()
    body = len(meta).to_bytes(2, "big") + meta + picture.pixels.tobytes()
    return REPLY.pack(MAGIC, sequence, DECODED, len(body)) + body


def refused(sequence: int, error: UndecodableError) -> bytes:
    body = json.dumps({"reason": error.reason, "detail": error.detail}).encode()
    return REPLY.pack(MAGIC, sequence, REFUSED, len(body)) + body


def read_reply_header(header: bytes, sequence: int) -> tuple[int, int]:
    """Kind and length of the reply to this request.

    Raises:
        GarbledError: another request's reply, or none at all.
    """
    magic, answers, kind, length = REPLY.unpack(header)
    if magic != MAGIC or answers != sequence or kind not in (READY, DECODED, REFUSED) or length > REPLY_BYTES_MAX:
        raise GarbledError("the reply's header")
    return kind, length


def read_decoded(body: bytes, limits: Limits) -> Decoded:
    """The picture of a `decoded` reply.

    Raises:
        GarbledError: a field is missing, of another type, or beyond the limits.
    """
    meta_end = 2 + int.from_bytes(body[:2], "big")
    if len(body) - meta_end != PIXELS_BYTES:
        raise GarbledError("the reply's length")
    fields = _object(body[2:meta_end])
    width, height, quality = (_integer(fields, name) for name in ("width", "height", "pdq_quality"))
    fingerprint, form = _text(fields, "pdq"), _text(fields, "format")
    within = min(width, height) > 0 and width * height <= limits.pixels_max and 0 <= quality <= PDQ_QUALITY_MAX
    if not within or not _PDQ.match(fingerprint) or form not in FORMATS:
        raise GarbledError("the picture's fields")
    pixels = np.frombuffer(body, dtype=np.uint8, offset=meta_end).reshape(SIDE, SIDE, 3)
    return Decoded(pixels, fingerprint, quality, width, height, form, _timings(fields))


def read_refused(body: bytes) -> UndecodableError:
    """The error of a `refused` reply.

    Raises:
        GarbledError: not a reason a decoder may give.
    """
    fields = _object(body)
    reason = _text(fields, "reason")
    if reason not in REASONS:
        raise GarbledError("the reason")
    return UndecodableError(reason, _text(fields, "detail"))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise GarbledError("JSON") from None
    if not isinstance(fields, dict):
        raise GarbledError("JSON that is no object")
    return fields


def _integer(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int:
        raise GarbledError(name)
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise GarbledError(name)
    return value


def _timings(fields: dict[str, Any]) -> dict[str, float]:
    timings = fields.get("timings_s")
    if not isinstance(timings, dict) or len(timings) > TIMINGS_MAX:
        raise GarbledError("timings_s")
    for value in timings.values():
        if type(value) is not float or not math.isfinite(value):
            raise GarbledError("timings_s")
    return timings
