"""Edits that people make to pictures before they upload them again. Provisional, Pillow only, seeded.

Every edit takes an RGB picture and a `random.Random`, leaves the picture alone and returns a new RGB one.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from random import Random
from typing import TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit: TypeAlias = Callable[[Image.Image, Random], Image.Image]
Slider: TypeAlias = type[ImageEnhance.Brightness | ImageEnhance.Contrast | ImageEnhance.Color]

_WORDS = ("when", "you", "see", "it", "again", "nobody", "look", "at", "this", "monday", "mood", "best", "day", "ever")
_COLOURS = ("#ffd93b", "#ff5f5f", "#4fb3ff", "#5fd38d", "#ffffff", "#222222")


def _crop(share: float) -> Edit:
    """Keep a window of `share` of the area, anywhere."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        side = share**0.5
        width, height = (max(8, round(length * side)) for length in image.size)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    return edit


def _rotate(degrees: int) -> Edit:
    """Turn either way; the new corners are black or white."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        angle = degrees * random.choice((-1, 1))
        fill = random.choice(("black", "white"))
        return image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)

    return edit


def _encoded(file_format: str, quality: int) -> Edit:
    """Save and open again."""

    def edit(image: Image.Image, _random: Random) -> Image.Image:
        buffer = BytesIO()
        image.save(buffer, file_format, quality=quality)
        return Image.open(buffer).convert("RGB")

    return edit


def _enhanced(kind: Slider, low: float, high: float) -> Edit:
    """Less (`low`) or more (`high`) of a quality, as an editor's slider does."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        return kind(image).enhance(random.choice((low, high)))

    return edit


def _mirror(image: Image.Image, _random: Random) -> Image.Image:
    return ImageOps.mirror(image)


def _aspect(image: Image.Image, random: Random) -> Image.Image:
    """Squeeze one side to 65 to 80 %."""
    share = random.uniform(0.65, 0.8)
    wide = random.choice((True, False))
    size = (round(image.width * share), image.height) if wide else (image.width, round(image.height * share))
    return image.resize(size, Image.Resampling.BICUBIC)


def _resize(image: Image.Image, random: Random) -> Image.Image:
    """Down to 25 to 50 %."""
    share = random.uniform(0.25, 0.5)
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


def _grey(image: Image.Image, _random: Random) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _blur(image: Image.Image, random: Random) -> Image.Image:
    """Gaussian of 0.5 to 1 % of the long side."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * random.uniform(0.005, 0.01)))


def _noise(image: Image.Image, random: Random) -> Image.Image:
    """Uniform noise of up to 30 levels either way."""
    levels = 30
    grain = Image.frombytes("RGB", image.size, random.randbytes(3 * image.width * image.height))
    grain = grain.point([value * 2 * levels // 255 for value in range(256)] * 3)
    return ImageChops.add(image, grain, offset=-levels)


def _phrase(random: Random, words: int) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(words))


def _caption(image: Image.Image, random: Random) -> Image.Image:
    """A meme: a white band with a line of text above or below the picture."""
    band = round(image.height * random.uniform(0.12, 0.2))
    above = random.choice((True, False))
    canvas = Image.new("RGB", (image.width, image.height + band), "white")
    canvas.paste(image, (0, band if above else 0))
    middle = (image.width // 2, band // 2 if above else image.height + band // 2)
    font = ImageFont.load_default(max(10, min(band // 2, image.width // 14)))
    ImageDraw.Draw(canvas).text(middle, _phrase(random, 5), "black", font, anchor="mm")
    return canvas


def _sticker(image: Image.Image, random: Random) -> Image.Image:
    """One or two round faces, each a fifth to a third of the short side wide."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.randint(1, 2)):
        wide = round(min(image.size) * random.uniform(0.2, 0.34))
        x, y = random.randint(0, image.width - wide), random.randint(0, image.height - wide)
        draw.ellipse((x, y, x + wide, y + wide), random.choice(_COLOURS[:4]), "#222222", max(1, wide // 30))
        for eye in (0.3, 0.7):
            left = x + wide * eye
            draw.ellipse((left - wide / 14, y + wide * 0.3, left + wide / 14, y + wide * 0.45), "#222222")
        mouth = (x + wide * 0.25, y + wide * 0.35, x + wide * 0.75, y + wide * 0.8)
        draw.arc(mouth, 10, 170, "#222222", wide // 16 + 1)
    return result


def _watermark(image: Image.Image, random: Random) -> Image.Image:
    """A half-transparent name, repeated over the whole picture."""
    layer = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(layer)
    size = max(12, min(image.size) // 12)
    font, name, strength = ImageFont.load_default(size), _phrase(random, 2), random.randint(70, 130)
    for row, y in enumerate(range(0, image.height, size * 3)):
        for x in range(-size * 3 * (row % 2), image.width, size * 9):
            draw.text((x, y), name, strength, font)
    return Image.composite(Image.new("RGB", image.size, "white"), image, layer)


def _border(image: Image.Image, random: Random) -> Image.Image:
    """A frame of one colour, 4 to 10 % of the short side."""
    return ImageOps.expand(image, round(min(image.size) * random.uniform(0.04, 0.1)), random.choice(_COLOURS))


def _letterbox(image: Image.Image, random: Random) -> Image.Image:
    """Black or white bars that make the picture square, or twice as wide as high if it was square."""
    side = max(image.size)
    size = (side, side) if min(image.size) < 0.9 * side else (2 * side, side)
    return ImageOps.pad(image, size, color=random.choice(("black", "white")))


def _screenshot(image: Image.Image, random: Random) -> Image.Image:
    """A phone's screen, 9 to 16, light or dark: status bar, a name, the picture at full width, buttons, comments."""
    width, height = 360, 640
    ground, ink = random.choice((("#ffffff", "#1a1a1a"), ("#121212", "#e8e8e8")))
    screen = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(screen)
    font = ImageFont.load_default(14)
    draw.text((12, 6), f"{random.randint(0, 23):02}:{random.randint(0, 59):02}", ink, font)
    draw.rectangle((width - 40, 8, width - 14, 18), outline=ink)
    draw.ellipse((12, 34, 44, 66), random.choice(_COLOURS[:4]))
    draw.text((54, 42), _phrase(random, 2), ink, font)
    shown = ImageOps.contain(image, (width, height - 200))
    screen.paste(shown, ((width - shown.width) // 2, 78))
    below = 78 + shown.height + 12
    for button in range(3):
        draw.ellipse((14 + 40 * button, below, 36 + 40 * button, below + 22), outline=ink, width=2)
    for line, y in enumerate(range(below + 36, height - 20, 24)):
        draw.text((14, y), _phrase(random, 3 + line % 4), ink, font)
    return screen


EDITS: dict[str, Edit] = {
    "crop_90": _crop(0.9),
    "crop_70": _crop(0.7),
    "crop_50": _crop(0.5),
    "mirror": _mirror,
    "rotate_5": _rotate(5),
    "rotate_15": _rotate(15),
    "rotate_90": _rotate(90),
    "aspect": _aspect,
    "resize": _resize,
    "brightness": _enhanced(ImageEnhance.Brightness, 0.6, 1.5),
    "contrast": _enhanced(ImageEnhance.Contrast, 0.6, 1.6),
    "saturation": _enhanced(ImageEnhance.Color, 0.3, 2.0),
    "grey": _grey,
    "blur": _blur,
    "noise": _noise,
    "jpeg_50": _encoded("JPEG", 50),
    "jpeg_30": _encoded("JPEG", 30),
    "jpeg_10": _encoded("JPEG", 10),
    "webp_30": _encoded("WEBP", 30),
    "caption": _caption,
    "sticker": _sticker,
    "watermark": _watermark,
    "border": _border,
    "letterbox": _letterbox,
    "screenshot": _screenshot,
}
_SINGLE = tuple(EDITS)


def _two_in_a_row(image: Image.Image, random: Random) -> Image.Image:
    """Two different edits, one after the other."""
    first, second = random.sample(_SINGLE, 2)
    return EDITS[second](EDITS[first](image, random), random)


EDITS["two_in_a_row"] = _two_in_a_row
