"""R6: hostile bytes are refused with the right reason, before they cost anything."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

import stream.intake.decode as module
from models.preprocess import reduce
from schemas.events import Reason
from stream.intake.decode import REASONS, UndecodableError, configure_pillow, decode
from stream.intake.limits import Limits
from tests.support.poison import encoded, gif_of_size, jpeg_of_size, photo, png, webp_of_size

LIMITS = Limits(
    bytes_max=20_000_000, pixels_max=40_000_000, side_max=16_384, cpu_s=2.0, wall_s=10.0, memory_bytes=1_500_000_000
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


@pytest.fixture(autouse=True)
def pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limits as in a decoder process, and back afterwards."""
    for owner, name in (
        (Image, "MAX_IMAGE_PIXELS"),
        (ImageFile, "LOAD_TRUNCATED_IMAGES"),
        (PngImagePlugin, "MAX_TEXT_CHUNK"),
        (PngImagePlugin, "MAX_TEXT_MEMORY"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    configure_pillow(LIMITS)


def reason(data: bytes) -> str:
    with pytest.raises(UndecodableError) as caught:
        decode(data, LIMITS)
    return caught.value.reason


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str) -> None:
    """A sound picture becomes pixels and a PDQ. Break: take the format out of `format_of`."""
    result = decode(encoded(photo(), form), LIMITS)
    assert (result.format, result.width, result.height) == (form, 300, 200)
    assert result.pixels.shape == (224, 224, 3)
    assert result.pixels.dtype == np.uint8
    assert len(result.pdq) == 64
    assert set(result.timings_s) == {"decode", "reduce", "pdq", "panels"}


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (16_384, 1), (3, 2)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_thin_and_tiny(form: str, size: tuple[int, int]) -> None:
    """The smallest and the thinnest pictures decode. Break: keep the aspect, and let a side be rounded to 0."""
    assert decode(encoded(Image.new("RGB", size, "red"), form), LIMITS).pixels.shape == (224, 224, 3)


@pytest.mark.parametrize("make", [jpeg_of_size, gif_of_size, webp_of_size, png])
def test_pixel_bomb(make: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of 50,000 x 50,000 is refused unread, also by our check alone. Break: drop the first half of
    `_check_size`.
    """
    monkeypatch.setattr(module, "_load", lambda _image: pytest.fail("read"))
    assert reason(make(50_000, 50_000)) == "too_many_pixels"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(make(50_000, 50_000)) == "too_many_pixels"
    assert reason(make(6400, 6400)) == "too_many_pixels"


@pytest.mark.parametrize("make", [jpeg_of_size, gif_of_size, webp_of_size, png])
def test_long_side(make: Callable[[int, int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A side above the limit is refused unread, even with few pixels. Break: call `_check_size` after `_load`."""
    monkeypatch.setattr(module, "_load", lambda _image: pytest.fail("read"))
    assert reason(make(16_385, 2)) == "too_many_pixels"


def test_webp_is_checked_before_pillow_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """libwebp never gets a canvas beyond the limit to allocate. Break: drop the call of `_webp_canvas`."""
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *_args, **_options: opened.append(1))
    assert reason(webp_of_size(16_000, 16_000)) == "too_many_pixels"
    assert opened == []


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_webp_canvas(options: dict[str, object]) -> None:
    """Our reading of a WebP header agrees with Pillow's, for all three kinds. Break: forget the `1 +` of VP8L."""
    for image in (photo(301, 77), photo(301, 77).convert("RGBA")):
        image.putpixel((0, 0), 0)
        assert module._webp_canvas(encoded(image, "WEBP", **options)) == (301, 77)


def test_first_frame_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GIF of 2,000 frames costs one. Break: read `image.n_frames` in `decode`."""
    frames = [Image.new("P", (40, 40), number % 7) for number in range(2000)]
    bomb = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    sought: list[int] = []
    seek = GifImagePlugin.GifImageFile._seek

    def counted(image: GifImagePlugin.GifImageFile, frame: int, update_image: bool = True) -> None:
        sought.append(frame)
        seek(image, frame, update_image)

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", counted)
    assert decode(bomb, LIMITS).width == 40
    assert sought == [0]


def test_gif_frame_beyond_its_screen() -> None:
    """A GIF whose frame is larger than its screen is measured by its frame. Break: take the size from the header."""
    data = bytearray(encoded(photo(), "GIF"))
    place = data.index(b"\x2c\x00\x00\x00\x00" + struct.pack("<HH", 300, 200))
    data[place + 5 : place + 9] = struct.pack("<HH", 50_000, 50_000)
    assert reason(bytes(data)) == "too_many_pixels"


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_bomb(kind: bytes) -> None:
    """A compressed chunk of 100 MB is refused. Break: set `TEXT_CHUNK_BYTES_MAX` to 1 << 30."""
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    sound, bomb = ((kind, head + zlib.compress(bytes(length), 9)) for length in (1000, 100_000_000))
    pixels = (b"IDAT", zlib.compress(bytes(14)))
    assert decode(png(2, 2, sound, pixels), LIMITS).width == 2
    assert reason(png(2, 2, bomb, pixels)) == "bad_image"


def test_many_text_chunks() -> None:
    """So are many chunks below that limit. Break: set `TEXT_BYTES_MAX` to 1 << 30."""
    packed = zlib.compress(bytes(1_000_000), 9)
    chunks = [(b"zTXt", b"%d\0\0" % number + packed) for number in range(20)]
    pixels = (b"IDAT", zlib.compress(bytes(14)))
    assert decode(png(2, 2, *chunks[:7], pixels), LIMITS).width == 2
    assert reason(png(2, 2, *chunks, pixels)) == "bad_image"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated(form: str, share: float) -> None:
    """Half a picture is no picture. Break: set `LOAD_TRUNCATED_IMAGES`."""
    data = encoded(photo(), form)
    assert reason(data[: max(14, int(len(data) * share))]) == "bad_image"


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(), "BMP"),
        encoded(photo(), "TIFF"),
        encoded(photo(), "ICO"),
        encoded(photo(), "PPM"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html><title>404</title>",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\0" * 100,
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_other_formats(data: bytes) -> None:
    """Only the four formats are taken, whatever else Pillow knows. Break: open without `formats`, and guess."""
    assert reason(data) == "unsupported_format"


@pytest.mark.parametrize("magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a"])
def test_magic_and_nothing_else(magic: bytes) -> None:
    """The first bytes of a format do not make a picture. Break: let `_guard` pass SyntaxError on."""
    assert reason(magic) == "bad_image"
    assert reason(magic + b"\0" * 100) == "bad_image"


def test_empty() -> None:
    """No bytes are no picture. Break: drop the first check of `format_of`."""
    assert reason(b"") == "bad_image"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Image.DecompressionBombError, "too_many_pixels"),
        (Image.DecompressionBombWarning, "too_many_pixels"),
        *((error, "bad_image") for error in (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)),
        *((error, "bad_image") for error in (struct.error, zlib.error, KeyError, OverflowError, RecursionError)),
    ],
)
def test_messages_hold_no_content(raised: type[Exception], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Pillow raises has its reason, and a dead letter never quotes the file. Break: put `str(error)` there."""

    def quote(_image: object) -> None:
        raise raised("hunter2")

    monkeypatch.setattr(module, "_load", quote)
    with pytest.raises(UndecodableError) as caught:
        decode(encoded(photo(), "PNG"), LIMITS)
    assert caught.value.reason == expected
    assert "hunter2" not in caught.value.detail


def test_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lack of memory is left to the process. Break: translate MemoryError like the others."""

    def fail(_image: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_load", fail)
    with pytest.raises(MemoryError):
        decode(encoded(photo(), "PNG"), LIMITS)


def test_large_jpeg_is_decoded_small() -> None:
    """A large JPEG is decoded at half its size, to nearly the same pixels. Break: draft to 32 pixels."""
    texture = np.random.default_rng(2).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(texture).resize((1200, 1000)), "JPEG", quality=90)
    full = reduce(Image.open(io.BytesIO(data))).astype(int)
    scaled = decode(data, LIMITS).pixels.astype(int)
    assert np.abs(scaled - full).mean() < 3.0


def test_multi_picture_jpeg() -> None:
    """A phone's multi-picture JPEG is a JPEG. Break: report Pillow's own format name."""
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo(100, 100)])
    assert decode(data, LIMITS).format == "JPEG"


def test_reasons_are_the_contracts() -> None:
    """Each reason a decoder gives is one of `Reason`. Break: rename one here or there."""
    assert {Reason(name) for name in REASONS} == {Reason.BAD_IMAGE, Reason.TOO_MANY_PIXELS, Reason.UNSUPPORTED_FORMAT}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_fuzz(form: str, seed: int) -> None:
    """Damaged bytes decode or are refused; nothing else is raised. Break: narrow `_guard` to OSError."""
    chance = random.Random(f"{form}{seed}")
    exif = Image.Exif()
    exif[274], exif[306] = 6, "2026:11:21"
    sound = encoded(photo(64, 48), form, **({} if form == "GIF" else {"exif": exif}))
    for _ in range(60):
        data = bytearray(sound)
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(UndecodableError):
            assert decode(bytes(data), LIMITS).pixels.shape == (224, 224, 3)
