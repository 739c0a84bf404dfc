"""Uploads that must not stop anything: hostile pictures, malformed events, references to nowhere, decoders that die."""

from __future__ import annotations

import base64
import ctypes
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
import numpy as np
from PIL import Image

from schemas.cloudevents import STRUCTURED, Headers, upload_headers
from schemas.events import Reason

# Stands in every payload that can hold it, and must stand in no dead letter.
CANARY = b"canary-5d1c"
SIDE = 65_000
BYTES_MAX = 6_000_000


@dataclass(frozen=True)
class Poison:
    """One upload record, and what must come of it: a dead letter's reason, or a verdict (None)."""

    name: str
    value: bytes
    headers: Headers
    reason: Reason | None


def photo(width: int = 300, height: int = 200) -> Image.Image:
    """A smooth, detailed picture."""
    coarse = np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of our own making: header (8 bit RGB), these chunks, end."""
    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        parts.append(struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body)))
    return b"".join(parts)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    data = bytearray(encoded(photo(), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack("!HH", height, width)
    return bytes(data)


def gif_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WebP whose canvas claims another size."""
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def compressed_chunk(kind: bytes, length: int) -> tuple[bytes, bytes]:
    """A PNG chunk that unpacks to so many bytes: zTXt, iTXt or iCCP."""
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    return kind, head + zlib.compress(bytes(length), 9)


def slow_picture(filler_bytes: int) -> bytes:
    """A sound PNG of 36 megapixels: the better part of a second in a decoder, most of it after its bytes are read."""
    rows = zlib.compress(bytes((1 + 3 * 6_000) * 6_000), 1)
    return png(6_000, 6_000, (b"fiLl", bytes(filler_bytes)), (b"IDAT", rows))


def frames(count: int) -> bytes:
    """A GIF of so many frames."""
    pictures = [Image.new("P", (40, 40), number % 7) for number in range(count)]
    return encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:])


def table(root: Path, tenants: Sequence[str]) -> list[Poison]:
    """Poison of every kind, the tenants taking turns.

    Args:
        root: an allowed folder, in which files and links are made.
        tenants: those that the deployment allows.
    """
    kinds = [*_pictures(), *_events(), *_json(), *_references(root)]
    made = []
    for n, (name, value, changes, reason) in enumerate(kinds):
        tenant = tenants[n % len(tenants)].encode()
        made.append(Poison(name, value, headers(f"poison-{name}", tenant, **changes), reason))
    return [*made, *_structured(tenants[0]), Poison("no headers", CANARY, [], Reason.BAD_TENANT), *_doubled(tenants[0])]


def headers(upload_id: str, tenant: bytes, **changes: bytes | None) -> Headers:
    """An upload's headers with some of them changed, or left out (None)."""
    usual = upload_headers(upload_id, "t", "image/jpeg", "/tests")
    given = {
        **dict(usual),
        "ce_tenant": tenant,
        **{n.replace("content_type", "content-type"): v for n, v in changes.items()},
    }
    return [(name, value) for name, value in given.items() if value is not None]


Kind = tuple[str, bytes, dict[str, bytes | None], Reason | None]


def _pictures() -> Iterator[Kind]:
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        data = encoded(photo(), form)
        yield f"truncated {form}", data[: len(data) // 2], {}, Reason.BAD_IMAGE
    for make in (png, jpeg_of_size, gif_of_size, webp_of_size):
        yield f"pixels {make.__name__}", make(SIDE, SIDE) + CANARY, {}, Reason.TOO_MANY_PIXELS
    pixels = (b"IDAT", zlib.compress(bytes(14)))
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        bomb = png(2, 2, compressed_chunk(kind, 30_000_000), pixels)
        yield f"unpacked {kind.decode()}", bomb + CANARY, {}, Reason.BAD_IMAGE
    yield "2,000 frames", frames(2_000), {}, None
    for form in ("BMP", "TIFF"):
        yield form, encoded(photo(), form) + CANARY, {}, Reason.UNSUPPORTED_FORMAT
    for name, text in (
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("HTML", b"<!doctype html>"),
        ("PDF", b"%PDF-1.7"),
    ):
        yield name, text + CANARY, {}, Reason.UNSUPPORTED_FORMAT
    yield "noise", b"\x01" + CANARY * 100, {}, Reason.UNSUPPORTED_FORMAT
    yield "magic alone", b"\xff\xd8\xff", {}, Reason.BAD_IMAGE
    yield "too large", encoded(photo(), "JPEG") + CANARY * (BYTES_MAX // len(CANARY)), {}, Reason.TOO_LARGE
    # The content says what it is, not the sender.
    yield "JPEG called PNG", encoded(photo(310), "JPEG"), {"content_type": b"image/png"}, None
    yield "JSON called JPEG", b'{"uri": "s3://b/k"}', {}, Reason.UNSUPPORTED_FORMAT
    yield "JPEG called HTML", encoded(photo(), "JPEG"), {"content_type": b"text/html"}, Reason.BAD_EVENT
    yield "JPEG called JSON", encoded(photo(), "JPEG"), {"content_type": b"application/json"}, Reason.BAD_EVENT


def _events() -> Iterator[Kind]:
    data = encoded(photo(), "JPEG") + CANARY
    yield "no bytes", b"", {}, Reason.BAD_EVENT
    for name in ("ce_id", "ce_specversion", "ce_type", "ce_source", "content_type"):
        yield f"no {name}", data, {name: None}, Reason.BAD_EVENT
        yield f"{name} not UTF-8", data, {name: b"\xff\xfe"}, Reason.BAD_EVENT
    yield "endless id", data, {"ce_id": b"x" * 2_000_000}, Reason.BAD_EVENT
    yield "time", data, {"ce_time": b"9999-99-99T99:99:99Z"}, Reason.BAD_EVENT
    for name, tenant in (("none", None), ("empty", b""), ("endless", b"t" * 2_000_000), ("not UTF-8", b"\xff\xfe")):
        yield f"tenant {name}", data, {"ce_tenant": tenant}, Reason.BAD_TENANT
    yield "tenant unlisted", data, {"ce_tenant": b"stranger"}, Reason.UNLISTED_TENANT


def _json() -> Iterator[Kind]:
    for name, text in (
        ("broken", b'{"uri": "' + CANARY),
        ("a list", b"[]"),
        ("deep", b"[" * 100_000),
        ("deep field", b'{"uri": ' + b"[" * 100_000),
        ("wide", b'{"uri": [' + b"[]," * 2_000_000 + b"[]]}"),
        ("many fields", b'{"uri": "s3://b/k", ' + b", ".join(b'"%d": 1' % n for n in range(500_000)) + b"}"),
        ("no URI", b'{"uri": "", "sha256": "' + CANARY + b'"}'),
    ):
        yield f"JSON {name}", text, {"content_type": b"application/json"}, Reason.BAD_EVENT


def _references(root: Path) -> Iterator[Kind]:
    inside, outside = root / "inside.jpg", root.parent / "outside.jpg"
    for path in (inside, outside):
        path.write_bytes(encoded(photo(320), "JPEG"))
    (root / "link.jpg").symlink_to(outside)
    for name, uri, reason in (
        ("missing", f"file://{root}/missing.jpg", Reason.URI_NOT_FOUND),
        ("outside", f"file://{outside}", Reason.URI_REFUSED),
        ("upwards", f"file://{root}/../outside.jpg", Reason.URI_REFUSED),
        ("link", f"file://{root}/link.jpg", Reason.URI_REFUSED),
        ("folder", f"file://{root}/", Reason.URI_REFUSED),
        ("scheme", "ftp://example.org/a.jpg", Reason.URI_REFUSED),
        ("metadata", "https://169.254.169.254/latest", Reason.URI_REFUSED),
        ("no URI", "a.jpg", Reason.BAD_REFERENCE),
    ):
        value = json.dumps({"uri": uri}).encode()
        yield f"reference {name}", value, {"content_type": b"application/json"}, reason
    other = json.dumps({"uri": f"file://{inside}", "sha256": "0" * 64}).encode()
    yield "reference checksum", other, {"content_type": b"application/json"}, Reason.SHA256_MISMATCH


def _structured(tenant: str) -> Iterator[Poison]:
    event = {"specversion": "1.0", "type": "x", "source": "/tests", "tenant": tenant, "datacontenttype": "image/jpeg"}
    sound = {**event, "id": "structured", "data_base64": base64.b64encode(encoded(photo(330), "JPEG")).decode()}
    mode = [("content-type", STRUCTURED.encode())]
    # Of an event that is not JSON nobody can tell the tenant.
    yield Poison("structured", json.dumps(sound).encode(), mode, None)
    yield Poison("structured broken", b'{"id": "' + CANARY, mode, Reason.BAD_TENANT)
    yield Poison("structured deep", b'{"tenant": "t", "id": ' + b"[" * 100_000, mode, Reason.BAD_TENANT)
    yield Poison("structured wide", b'{"tenant": "t", "x": [' + b"[]," * 2_000_000 + b"1]}", mode, Reason.BAD_TENANT)
    for name, change in (("id", {"id": {}}), ("base64", {"data_base64": "?"}), ("no data", {"data_base64": ""})):
        yield Poison(f"structured {name}", json.dumps({**sound, **change}).encode(), mode, Reason.BAD_EVENT)


def _doubled(tenant: str) -> Iterator[Poison]:
    """Of a header that comes twice the last one counts."""
    usual = headers("doubled", tenant.encode())
    data = encoded(photo(340), "JPEG")
    yield Poison("doubled id", data, [("ce_id", b"first"), *usual], None)
    yield Poison("doubled tenant", data + CANARY, [*usual, ("ce_tenant", b"")], Reason.BAD_TENANT)


def send_header_name(bootstrap: str, topic: str, partition: int, name: bytes) -> None:
    """Send a record with a header whose name is any bytes, which confluent-kafka's own producer refuses.

    Raises:
        FileNotFoundError: this build of confluent-kafka brings no librdkafka of its own.
    """
    library = ctypes.CDLL(str(_librdkafka()))
    for function in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(library, function).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(configuration, b"bootstrap.servers", bootstrap.encode(), said, len(said))
    producer = ctypes.c_void_p(library.rd_kafka_new(0, configuration, said, len(said)))
    # rd_kafka_vtype_t: the end, a topic's name, its partition, the value, flags, a header.
    end, to, at, value, flags, header = (ctypes.c_int(number) for number in (0, 1, 3, 4, 7, 9))
    failed = library.rd_kafka_producev(
        *(producer, to, ctypes.c_char_p(topic.encode()), at, ctypes.c_int32(partition)),
        *(value, ctypes.c_char_p(CANARY), ctypes.c_size_t(len(CANARY)), flags, ctypes.c_int(2)),
        *(header, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1), end),
    )
    assert failed == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)


def _librdkafka() -> Path:
    folder = Path(confluent_kafka.__file__).parent
    for place in (folder.parent / "confluent_kafka.libs", folder / ".dylibs"):
        for library in sorted(place.glob("librdkafka*")):
            return library
    raise FileNotFoundError("confluent-kafka was built against a librdkafka of the system's")
