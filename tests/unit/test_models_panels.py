"""Panels are found where there are some, and hardly anywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw

from models.panels import PANELS_MAX, Box, panels
from models.preprocess import SIDE, reduce, to_rgb

FOLDER = Path(skimage.__file__).parent / "data"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photo(name: str) -> Image.Image:
    return to_rgb(Image.open(FOLDER / name))


def found(image: Image.Image, box: Box) -> bool:
    """Whether a panel lies there, to a pixel or two."""
    return any(np.abs(np.subtract(one, box)).max() <= 2 for one in panels(reduce(image)))


def collage(gap: int) -> Image.Image:
    canvas = Image.new("RGB", (800 + gap, 600 + gap), "white")
    for n, name in enumerate(PHOTOS):
        canvas.paste(photo(name).resize((400, 300)), (n % 2 * (400 + gap), n // 2 * (300 + gap)))
    return canvas


@pytest.mark.parametrize("gap", [0, 6])
def test_the_cells_of_a_collage(gap: int) -> None:
    """Two by two, with and without a gap: three of them at least. Break: `_STEP` of 60."""
    half = SIDE // 2
    cells = [Box(x, y, x + half, y + half) for x in (0, half) for y in (0, half)]
    assert sum(found(collage(gap), cell) for cell in cells) >= 3


def test_a_picture_in_a_picture() -> None:
    """Four sides inside the other. Break: search between the picture's rims alone."""
    ground = photo("coffee.png").resize((448, 448))
    ground.paste(photo("chelsea.png").resize((240, 200)), (100, 160))
    assert found(ground, Box(50, 80, 170, 180))


@pytest.mark.parametrize("dark", [False, True])
def test_what_a_screenshot_shows_and_not_its_text(dark: bool) -> None:
    """Break: return False from `_plain`."""
    screen = Image.new("RGB", (360, 720), "black" if dark else "white")
    draw = ImageDraw.Draw(screen)
    screen.paste(photo("chelsea.png").resize((360, 300)), (0, 80))
    for y in range(400, 700, 22):
        draw.text((10, y), "words and more words, as comments have them", "white" if dark else "black")
    boxes = panels(reduce(screen))
    assert found(screen, Box(0, round(80 / 720 * SIDE), SIDE, round(380 / 720 * SIDE)))
    assert all(box.top < 0.5 * SIDE for box in boxes)


@pytest.mark.parametrize("name", [*PHOTOS, "motorcycle_left.png", "hubble_deep_field.jpg", "brick.png", "page.png"])
def test_photographs_have_none(name: str) -> None:
    """Break: `_SIDE_MIN` and `_MEAN_MIN` of .3."""
    assert panels(reduce(photo(name))) == []


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_plain_colours_have_none(seed: int) -> None:
    """Break: compare the steps with nothing around them."""
    random = np.random.default_rng(seed)
    assert panels(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) == []
    assert panels(np.full((SIDE, SIDE, 3), 90 * seed, dtype=np.uint8)) == []


def test_a_chessboard_of_pictures_has_at_most_four() -> None:
    """Hostile pictures cost a bound. Break: return them all."""
    canvas = Image.new("RGB", (SIDE, SIDE))
    for n in range(25):
        cell = photo(PHOTOS[n % 4]).resize((45, 45)).rotate(90 * (n % 3))
        canvas.paste(cell, (n % 5 * 45, n // 5 * 45))
    boxes = panels(np.asarray(canvas))
    assert 0 < len(boxes) <= PANELS_MAX


def test_overlap_by_hand() -> None:
    """Two squares of 4, two in common: 2 of 6. Break: divide by the smaller."""
    assert Box(0, 0, 2, 2).overlap(Box(1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert Box(0, 0, 2, 2).overlap(Box(2, 2, 4, 4)) == 0
