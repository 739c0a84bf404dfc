"""What every family of edits is made of: the type, colours, words."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from PIL import Image, ImageFont

Edit: TypeAlias = Callable[[Image.Image, Random], Image.Image]
"""RGB in, a new RGB picture out; the seed decides everything that is drawn by chance."""

WORDS = (
    "when", "you", "see", "it", "again", "nobody", "look", "at", "this", "monday", "mood", "best", "day", "ever", "wow",
    "share", "before", "they", "delete", "real", "proof", "my", "cat", "said", "no", "please", "help", "2019", "LOL",
)  # fmt: skip
COLOURS = ("#ffd93b", "#ff5f5f", "#4fb3ff", "#5fd38d", "#ffffff", "#222222")
BRIGHT = COLOURS[:4]
SIDE_MIN = 8


def phrase(random: Random, words: int) -> str:
    """So many words."""
    return " ".join(random.choice(WORDS) for _ in range(words))


def font(size: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font inside Pillow, 8 pixels high at least."""
    return ImageFont.load_default(max(8, round(size)))


def any_colour(random: Random) -> tuple[int, int, int]:
    """Black and white each in a quarter of the cases, else any."""
    drawn = (random.randrange(256), random.randrange(256), random.randrange(256))
    return random.choice(((0, 0, 0), (255, 255, 255), drawn, drawn))


def scaled(image: Image.Image, share: float) -> tuple[int, int]:
    """Width and height times a share, 8 pixels at least."""
    return max(SIDE_MIN, round(image.width * share)), max(SIDE_MIN, round(image.height * share))
