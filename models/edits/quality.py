"""Edits that lose detail: blur, noise, lossy formats."""

from __future__ import annotations

from io import BytesIO
from random import Random

from PIL import Image, ImageChops, ImageFilter

from models.edits.shared import Edit


def blur(low: float, high: float) -> Edit:
    """Gaussian, of a share of the long side between these."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(max(image.size) * random.uniform(low, high)))

    return edit


def noise(low: int, high: int) -> Edit:
    """Uniform noise of up to so many levels either way."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        levels = random.randint(low, high)
        grain = Image.frombytes("RGB", image.size, random.randbytes(3 * image.width * image.height))
        grain = grain.point([value * 2 * levels // 255 for value in range(256)] * 3)
        return ImageChops.add(image, grain, offset=-levels)

    return edit


def encoded(file_format: str, low: int, high: int) -> Edit:
    """Save with a quality between these and open again."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        buffer = BytesIO()
        image.save(buffer, file_format, quality=random.randint(low, high))
        return Image.open(buffer).convert("RGB")

    return edit
