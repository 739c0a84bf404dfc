"""Real photographs (from scikit-image's wheel) and edited copies of them, as JPEG bytes."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

import skimage
from PIL import Image

from models.edits import EDITS

NAMES = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)


@cache
def photo(name: str, side_max: int = 400) -> Image.Image:
    """A photograph, reduced for speed."""
    image = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    image.thumbnail((side_max, side_max))
    return image


def collage(*names: str) -> Image.Image:
    """Four photographs, two by two."""
    canvas = Image.new("RGB", (800, 600))
    for n, name in enumerate(names):
        canvas.paste(photo(name).resize((400, 300)), (n % 2 * 400, n // 2 * 300))
    return canvas


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def edited(name: str, edit: str, seed: int) -> bytes:
    """One edited copy, the same bytes for the same arguments."""
    return jpeg(EDITS[edit](photo(name), random.Random(seed)))


def mixture(count: int, seed: int) -> list[tuple[str, bytes]]:
    """(name, bytes) of originals and edited copies, some of them the same bytes, shuffled."""
    rng = random.Random(seed)
    edits = sorted(EDITS)
    made = [(name, jpeg(photo(name))) for name in NAMES]
    while len(made) < count:
        name = rng.choice(NAMES)
        if rng.random() < 0.15:
            made.append(rng.choice(made))
        else:
            edit = rng.choice(edits)
            made.append((f"{name}+{edit}", edited(name, edit, rng.randrange(1000))))
    rng.shuffle(made)
    return made
