"""Bytes to pixels, for bytes that may be hostile. Pure; runs in a decoder process (`decoder_child.py`).

The format comes from the content, never from a name or a header of the sender. The size comes from the
picture's header and is checked before anything is allocated for it. Only the first frame is read.
Errors carry our own words and an exception's class, never content: a message of Pillow's may quote the file.

Neither pydantic nor `schemas` is imported here: they would double the start-up time of a decoder process.
`sandbox.py` turns the reasons into `schemas.events.Reason`.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import (
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from models.panels import Box, panels
from models.perceptual import Pdq, pdq
from models.preprocess import DRAFT_SIDE, Reduction
from stream.intake.limits import Limits

T = TypeVar("T")

# Imported here so that Pillow opens no file later, when a decoder process may open none.
_PLUGINS = (GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
BAD_IMAGE = "bad_image"
TOO_MANY_PIXELS = "too_many_pixels"
UNSUPPORTED_FORMAT = "unsupported_format"
REASONS = (BAD_IMAGE, TOO_MANY_PIXELS, UNSUPPORTED_FORMAT)

# What the text chunks of a PNG may hold once decompressed: one chunk, and all of them.
TEXT_CHUNK_BYTES_MAX = 1 << 20
TEXT_BYTES_MAX = 8 << 20

# How far into a WebP its width and height reach.
WEBP_HEADER_BYTES = 30
WEBP_LOSSLESS_HEADER_BYTES = 25


class UndecodableError(Exception):
    """The bytes are no picture that dejaview takes. `reason` is one of `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Part(NamedTuple):
    """A panel of a picture: where it lies, and what the encoder needs of it. `pixels` is uint8 [224, 224, 3]."""

    box: Box
    pixels: NDArray[np.uint8]
    pdq: Pdq


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture reduced to what the encoder and PDQ need of it.

    `pixels` is uint8 [224, 224, 3]; `width` and `height` are the stored picture's, before its EXIF orientation.
    """

    pixels: NDArray[np.uint8]
    pdq: str
    pdq_quality: int
    width: int
    height: int
    format: str
    timings_s: Mapping[str, float]
    panels: tuple[Part, ...] = ()

    @property
    def inputs(self) -> list[NDArray[np.uint8]]:
        """What is to be encoded: the picture, then its panels."""
        return [self.pixels, *(part.pixels for part in self.panels)]


def configure_pillow(limits: Limits) -> None:
    """Set Pillow's process-wide limits. They stand behind the checks of `decode`, not instead of them."""
    Image.MAX_IMAGE_PIXELS = limits.pixels_max
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    PngImagePlugin.MAX_TEXT_CHUNK = TEXT_CHUNK_BYTES_MAX
    PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES_MAX
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(data: bytes, limits: Limits) -> Decoded:
    """The first frame of a JPEG, PNG, WebP or GIF.

    Raises:
        UndecodableError: no such picture, or one beyond the limits.
        MemoryError: it does not fit into the address space.
    """
    form = format_of(data)
    start = time.perf_counter()
    if form == "WEBP":
        # libwebp allocates the canvas when Pillow opens the file, and Pillow 12 checks nothing before.
        _check_size(*_webp_canvas(data), limits)
    image = _guard("header", lambda: Image.open(io.BytesIO(data), formats=[form]))
    with image:
        width, height = image.size
        _check_size(width, height, limits)
        _guard("pixels", lambda: _load(image))
        decoded = time.perf_counter()
        reduction = _guard("reduction", lambda: Reduction(image))
        pixels = _guard("reduction", reduction.whole)
        reduced = time.perf_counter()
        fingerprint = _guard("pdq", lambda: pdq(pixels))
        hashed = time.perf_counter()
        parts = _guard("panels", lambda: _panels(reduction, pixels))
    timings_s = {
        "decode": decoded - start,
        "reduce": reduced - decoded,
        "pdq": hashed - reduced,
        "panels": time.perf_counter() - hashed,
    }
    return Decoded(pixels, fingerprint.hash, fingerprint.quality, width, height, form, timings_s, parts)


def _panels(reduction: Reduction, pixels: NDArray[np.uint8]) -> tuple[Part, ...]:
    cuts = [(box, reduction.part(*box.shares)) for box in panels(pixels)]
    return tuple(Part(box, part, pdq(part)) for box, part in cuts)


def format_of(data: bytes) -> str:
    """One of `FORMATS`, by the first bytes.

    Raises:
        UndecodableError: empty (`bad_image`), or nothing of these (`unsupported_format`).
    """
    if not data:
        raise UndecodableError(BAD_IMAGE, "there are no bytes")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    raise UndecodableError(UNSUPPORTED_FORMAT, "the content is not JPEG, PNG, WebP or GIF")


def _load(image: Image.Image) -> None:
    """Decode the first frame; a large JPEG at an eighth, a quarter or half of its size, when that is enough."""
    image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
    image.load()


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels_max:
        detail = f"{width} x {height} pixels are above intake.pixels_max ({limits.pixels_max})"
        raise UndecodableError(TOO_MANY_PIXELS, detail)
    if max(width, height) > limits.side_max:
        detail = f"a side of {max(width, height)} pixels is above intake.side_max ({limits.side_max})"
        raise UndecodableError(TOO_MANY_PIXELS, detail)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first chunk. Source: RFC 9649, sections 2.5 to 2.7."""
    kind, known = data[12:16], len(data)
    if kind == b"VP8X" and known >= WEBP_HEADER_BYTES:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 " and known >= WEBP_HEADER_BYTES:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    if kind == b"VP8L" and known >= WEBP_LOSSLESS_HEADER_BYTES:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise UndecodableError(BAD_IMAGE, "the WebP header is malformed")


def _guard(step: str, act: Callable[[], T]) -> T:
    """Run one step, with whatever it raises translated.

    A decoder fed with hostile bytes raises more classes than its documentation names; each of them says the
    same here, that this picture cannot be decoded. Only a lack of memory is the process's own trouble.
    """
    try:
        return act()
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UndecodableError(TOO_MANY_PIXELS, "more pixels than the header says, and than allowed") from None
    except UnidentifiedImageError:
        raise UndecodableError(BAD_IMAGE, f"the {step} is malformed") from None
    except OSError:
        raise UndecodableError(BAD_IMAGE, f"the {step} is truncated or broken") from None
    except Exception as error:  # noqa: BLE001 - translated, see above
        raise UndecodableError(BAD_IMAGE, f"the {step} cannot be read ({type(error).__name__})") from None
