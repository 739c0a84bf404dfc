"""The pictures of a benchmark: a user's, or drawn ones, and the same as a phone takes them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from models.photos import read_photos
from stream.errors import SettingError

PHONE_SIZE = (4032, 3024)
_DRAWN_SIZE = (481, 321)
_SHAPES = 12


def photos_of(paths: Sequence[Path], count: int) -> list[bytes]:
    """At most `count` image files of folders and tar files; drawn ones when no path is given.

    Raises:
        SettingError: there are none.
    """
    if not paths:
        return [drawn(number) for number in range(min(count, 200))]
    found = [photo.content for _, photo in zip(range(count), read_photos(paths), strict=False)]
    if not found:
        raise SettingError(f"{', '.join(map(str, paths))}: no photos; name folders or tar files of JPEG, PNG or WebP")
    return found


def drawn(number: int) -> bytes:
    """A JPEG with about the detail of a photograph: blurred noise of several sizes."""
    random = np.random.default_rng(number)
    width, height = _DRAWN_SIZE
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    for step in range(1, _SHAPES):
        small = random.random((height // (4 * step) + 2, width // (4 * step) + 2, 3)) * 255
        layer = Image.fromarray(small.astype(np.uint8)).resize(_DRAWN_SIZE, Image.Resampling.BICUBIC)
        canvas += np.asarray(layer, dtype=np.float32) / _SHAPES
    return _jpeg(Image.fromarray(canvas.clip(0, 255).astype(np.uint8)), 90)


def as_by_a_phone(photos: Sequence[bytes], count: int) -> list[bytes]:
    """The same pictures at 12 megapixels (JPEG of quality 88, about 3 MB)."""
    made = []
    for data in photos[:count]:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize(PHONE_SIZE, Image.Resampling.BICUBIC)
        grain = Image.effect_noise(PHONE_SIZE, 12).convert("RGB").filter(ImageFilter.GaussianBlur(1))
        made.append(_jpeg(Image.blend(image, grain, 0.08), 88))
    return made


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
