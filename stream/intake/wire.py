"""What a decoder process and its parent say to each other over two pipes.

Every message is a fixed header and a body whose length the header gives. Nothing is unpickled; the parent
checks each field, because a decoder process that met hostile bytes may answer anything.

    request   magic, sequence, length                the image's bytes
    ready     magic, sequence 0, kind, length 0
    decoded   magic, sequence, kind, length          length of the JSON (2 bytes), JSON, pixels, those of each panel
    refused   magic, sequence, kind, length          JSON
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

import numpy as np

from models.panels import PANELS_MAX, Box
from models.perceptual import Pdq
from stream.intake.decode import FORMATS, REASONS, Decoded, Part, UndecodableError
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
REPLY_BYTES_MAX = 2 + JSON_BYTES_MAX + (1 + PANELS_MAX) * PIXELS_BYTES

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
        "panels": [[*part.box, *part.pdq] for part in picture.panels],
    }
    meta = json.dumps(fields).encode()
    body = b"".join([len(meta).to_bytes(2, "big"), meta, *(pixels.tobytes() for pixels in picture.inputs)])
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
    fields = _object(body[2:meta_end])
    panels = _panels(fields)
    if len(body) - meta_end != (1 + len(panels)) * PIXELS_BYTES:
        raise GarbledError("the reply's length")
    width, height = (_integer(fields, name) for name in ("width", "height"))
    hashed = _pdq_of(fields.get("pdq"), fields.get("pdq_quality"))
    form = _text(fields, "format")
    within = min(width, height) > 0 and width * height <= limits.pixels_max
    if not within or form not in FORMATS:
        raise GarbledError("the picture's fields")
    pictures = np.frombuffer(body, dtype=np.uint8, offset=meta_end).reshape(-1, SIDE, SIDE, 3)
    parts = tuple(Part(box, pixels, pdq) for (box, pdq), pixels in zip(panels, pictures[1:], strict=True))
    return Decoded(pictures[0], hashed.hash, hashed.quality, width, height, form, _timings(fields), parts)


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


def _panels(fields: dict[str, Any]) -> list[tuple[Box, Pdq]]:
    found = fields.get("panels")
    if not isinstance(found, list) or len(found) > PANELS_MAX:
        raise GarbledError("panels")
    return [_panel(one) for one in found]


def _panel(fields: object) -> tuple[Box, Pdq]:
    if not isinstance(fields, list) or len(fields) != len(Box._fields) + len(Pdq._fields):
        raise GarbledError("a panel")
    *sides, hashed, quality = fields
    if any(type(side) is not int for side in sides):
        raise GarbledError("a panel's box")
    box = Box(*sides)
    if not (0 <= box.left < box.right <= SIDE and 0 <= box.top < box.bottom <= SIDE):
        raise GarbledError("a panel's box")
    return box, _pdq_of(hashed, quality)


def _pdq_of(hashed: object, quality: object) -> Pdq:
    if type(hashed) is not str or not _PDQ.match(hashed):
        raise GarbledError("pdq")
    if type(quality) is not int or not 0 <= quality <= PDQ_QUALITY_MAX:
        raise GarbledError("pdq_quality")
    return Pdq(hashed, quality)


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
