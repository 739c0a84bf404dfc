"""R6: a decoder process that met hostile bytes may answer anything; what no decoder answers is not believed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.panels import PANELS_MAX, Box
from models.perceptual import Pdq
from models.preprocess import SIDE
from schemas import events
from stream.intake import wire
from stream.intake.decode import Decoded, Part, UndecodableError
from stream.intake.limits import Limits

LIMITS = Limits(bytes_max=1000, pixels_max=1_000_000, side_max=16_384, cpu_s=2.0, wall_s=10.0, memory_bytes=10**9)
PIXELS = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
PARTS = (
    Part(Box(0, 0, 112, 224), PIXELS[::-1], Pdq("1f" * 32, 60)),
    Part(Box(112, 10, 224, 224), 255 - PIXELS, Pdq("2f" * 32, 0)),
)
PICTURE = Decoded(PIXELS, "0f" * 32, 87, 640, 480, "PNG", {"decode": 0.25}, PARTS)
PANEL = [0, 0, 112, 224, "1f" * 32, 60]
FIELDS: dict[str, object] = {
    "pdq": "0f" * 32,
    "pdq_quality": 87,
    "width": 640,
    "height": 480,
    "format": "PNG",
    "timings_s": {"decode": 0.25},
    "panels": [],
}


def body(fields: object, pixels: int = wire.PIXELS_BYTES) -> bytes:
    meta = json.dumps(fields).encode()
    return len(meta).to_bytes(2, "big") + meta + bytes(pixels)


def _length_of(change: dict[str, object]) -> int:
    """As long as so many panels are: nothing but the field is wrong."""
    panels = change.get("panels")
    return wire.PIXELS_BYTES * (1 + (len(panels) if isinstance(panels, list) else 0))


def test_round_trip() -> None:
    """What a decoder says is what its parent hears. Break: swap width and height in `decoded`."""
    message = wire.decoded(5, PICTURE)
    kind, length = wire.read_reply_header(message[: wire.REPLY.size], sequence=5)
    assert (kind, length) == (wire.DECODED, len(message) - wire.REPLY.size)
    heard = wire.read_decoded(message[wire.REPLY.size :], LIMITS)
    assert np.array_equal(heard.pixels, PIXELS)
    assert (heard.pdq, heard.pdq_quality, heard.width, heard.height, heard.format, heard.timings_s) == (
        *(PICTURE.pdq, PICTURE.pdq_quality, PICTURE.width, PICTURE.height, PICTURE.format),
        PICTURE.timings_s,
    )
    for one, other in zip(heard.panels, PARTS, strict=True):
        assert (one.box, one.pdq) == (other.box, other.pdq)
        assert np.array_equal(one.pixels, other.pixels)
    refused = wire.read_refused(wire.refused(5, UndecodableError("bad_image", "why"))[wire.REPLY.size :])
    assert (refused.reason, refused.detail) == ("bad_image", "why")
    assert wire.read_request_header(wire.request_header(5, 1000), LIMITS) == (5, 1000)


def test_side() -> None:
    """The protocol's picture is the encoder's, and messages take as many panels as there can be. Break: change one."""
    assert wire.SIDE == SIDE
    assert PANELS_MAX == events.PANELS_MAX


@pytest.mark.parametrize(
    "header",
    [
        wire.REPLY.pack(b"djv0", 5, wire.DECODED, 10),
        wire.REPLY.pack(wire.MAGIC, 4, wire.DECODED, 10),
        wire.REPLY.pack(wire.MAGIC, 5, 3, 10),
        wire.REPLY.pack(wire.MAGIC, 5, wire.DECODED, wire.REPLY_BYTES_MAX + 1),
    ],
)
def test_header(header: bytes) -> None:
    """Another protocol's, picture's, kind's or length's header is garbage. Break: skip one of the four checks."""
    with pytest.raises(wire.GarbledError):
        wire.read_reply_header(header, sequence=5)


@pytest.mark.parametrize(
    "change",
    [
        {"pdq": "0f"},
        {"pdq": "0F" * 32},
        {"pdq": None},
        {"pdq_quality": 101},
        {"pdq_quality": -1},
        {"pdq_quality": 50.0},
        {"width": 0},
        {"width": True},
        {"width": -640, "height": -480},
        {"width": 10_000},
        {"format": "TIFF"},
        {"format": ["PNG"]},
        {"timings_s": []},
        {"timings_s": {"decode": "x"}},
        {"timings_s": {"decode": float("nan")}},
        {"timings_s": {str(number): 0.1 for number in range(9)}},
        {"panels": None},
        {"panels": [None]},
        {"panels": [PANEL] * (PANELS_MAX + 1)},
        {"panels": [PANEL[:-1]]},
        {"panels": [[-1, *PANEL[1:]]]},
        {"panels": [[112, *PANEL[1:]]]},
        {"panels": [[0, 0, 112, 225, *PANEL[4:]]]},
        {"panels": [[0.0, *PANEL[1:]]]},
        {"panels": [[*PANEL[:4], "1F" * 32, 60]]},
        {"panels": [[*PANEL[:5], 101]]},
    ],
)
def test_fields(change: dict[str, object]) -> None:
    """Every field is checked. Break: skip the check of one."""
    wire.read_decoded(body(FIELDS), LIMITS)
    with pytest.raises(wire.GarbledError):
        wire.read_decoded(body({**FIELDS, **change}, _length_of(change)), LIMITS)


@pytest.mark.parametrize("field", FIELDS)
def test_missing_fields(field: str) -> None:
    """None may be missing. Break: give one a default."""
    with pytest.raises(wire.GarbledError):
        wire.read_decoded(body({name: value for name, value in FIELDS.items() if name != field}), LIMITS)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{[]}", b"[" * 4000, b'{"reason": "bad_tenant", "detail": ""}', b"\xff{}"]
)
def test_refusals(raw: bytes) -> None:
    """A decoder gives a decoder's reasons only. Break: accept any `Reason`."""
    with pytest.raises(wire.GarbledError):
        wire.read_refused(raw)


@pytest.mark.parametrize("panels", [0, 1])
@pytest.mark.parametrize("more", [-wire.PIXELS_BYTES, -1, 1, wire.PIXELS_BYTES])
def test_length(panels: int, more: int) -> None:
    """The pictures have their size, to the byte. Break: skip the check of the length."""
    fields, pixels = {**FIELDS, "panels": [PANEL] * panels}, (1 + panels) * wire.PIXELS_BYTES
    wire.read_decoded(body(fields, pixels), LIMITS)
    with pytest.raises(wire.GarbledError):
        wire.read_decoded(body(fields, pixels + more), LIMITS)


@given(st.binary(max_size=200))
def test_anything(raw: bytes) -> None:
    """Whatever comes, nothing but `GarbledError` is raised. Break: let `struct` or `json` errors out."""
    with pytest.raises(wire.GarbledError):
        wire.read_decoded(raw, LIMITS)
    with pytest.raises(wire.GarbledError):
        wire.read_refused(raw)
    with pytest.raises(wire.GarbledError):
        wire.read_request_header(raw, LIMITS)
