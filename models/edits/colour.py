"""Edits that change colours and leave every pixel where it is."""

from __future__ import annotations

import math
from random import Random
from typing import TypeAlias

from PIL import Image, ImageChops, ImageEnhance, ImageOps

from models.edits.shared import Edit

Slider: TypeAlias = type[ImageEnhance.Brightness | ImageEnhance.Contrast | ImageEnhance.Color]

BRIGHTNESS: Slider = ImageEnhance.Brightness
CONTRAST: Slider = ImageEnhance.Contrast
SATURATION: Slider = ImageEnhance.Color

_HUES = 256
_FILM = ("#f4e2b8", "#c8e0ff", "#ffd0d8", "#d8ffd8", "#ffe8c8")
_INKS = ("#1b1464", "#2d132c", "#00312f", "#3a0d0d", "#102a10", "#000000")
_PAPERS = ("#ff9f5a", "#ffe14d", "#7ff0c8", "#ff8fb8", "#9fd8ff", "#f0f0f0")


def slider(kind: Slider, low: tuple[float, float], high: tuple[float, float]) -> Edit:
    """Less (within `low`) or more (within `high`) of a quality; 1 leaves it as it is."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        return kind(image).enhance(random.uniform(*random.choice((low, high))))

    return edit


def hue(low: float, high: float) -> Edit:
    """Turn the wheel of hues by degrees between these, either way."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        turn = round(random.uniform(low, high) * random.choice((-1, 1)) * _HUES / 360)
        bands = list(image.convert("HSV").split())
        bands[0] = bands[0].point([(value + turn) % _HUES for value in range(256)])
        return Image.merge("HSV", bands).convert("RGB")

    return edit


def grey(image: Image.Image, _random: Random) -> Image.Image:
    """No colour."""
    return ImageOps.grayscale(image).convert("RGB")


def film(low: float, high: float) -> Edit:
    """What photo programs call a filter: a tint, a curve, darker corners."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        strength = random.uniform(low, high)
        tinted = ImageChops.multiply(image, Image.new("RGB", image.size, random.choice(_FILM)))
        toned = Image.blend(image, tinted, strength)
        gamma = math.exp(random.uniform(-0.5, 0.5) * strength)
        toned = toned.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
        corners = ImageOps.invert(Image.radial_gradient("L")).resize(image.size)
        floor = 255 * (1 - 0.8 * strength)
        light = corners.point([min(255, round(floor + value * 1.2)) for value in range(256)])
        return ImageChops.multiply(toned, Image.merge("RGB", (light, light, light)))

    return edit


def duotone(image: Image.Image, random: Random) -> Image.Image:
    """Two inks: dark parts in one colour, light parts in another."""
    ink, paper = random.choice(_INKS), random.choice(_PAPERS)
    return ImageOps.colorize(ImageOps.grayscale(image), ink, paper)


def posterise(low: int, high: int) -> Edit:
    """So many levels of each colour are left."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        levels = random.randint(low, high)
        return image.point([round(value * (levels - 1) / 255) * 255 // (levels - 1) for value in range(256)] * 3)

    return edit
