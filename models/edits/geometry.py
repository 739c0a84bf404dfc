"""Edits that move pixels: crops, turns, stretches, slants."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

from PIL import Image, ImageOps

from models.edits.shared import SIDE_MIN, Edit, any_colour, scaled

_BICUBIC = Image.Resampling.BICUBIC
_GRID = 12


def crop(low: float, high: float) -> Edit:
    """Keep a window of a share of the area between these, anywhere, of the picture's own aspect."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        width, height = scaled(image, random.uniform(low, high) ** 0.5)
        width, height = min(width, image.width), min(height, image.height)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    return edit


def free_crop(low: float, high: float) -> Edit:
    """The same, of any aspect from 2:3 to 3:2 of the picture's."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        share, stretch = random.uniform(low, high), math.exp(random.uniform(-0.4, 0.4))
        width = min(image.width, max(SIDE_MIN, round(image.width * (share * stretch) ** 0.5)))
        height = min(image.height, max(SIDE_MIN, round(image.height * (share / stretch) ** 0.5)))
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    return edit


def mirror(image: Image.Image, _random: Random) -> Image.Image:
    """Left for right."""
    return ImageOps.mirror(image)


def upside_down(image: Image.Image, _random: Random) -> Image.Image:
    """Top for bottom, as in a mirror on the floor."""
    return ImageOps.flip(image)


def rotate(low: float, high: float) -> Edit:
    """Turn either way by degrees between these; the new corners are black or white, or cut away."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        angle = random.uniform(low, high) * random.choice((-1, 1))
        fill = random.choice(("black", "white"))
        return image.rotate(angle, _BICUBIC, expand=random.choice((True, True, False)), fillcolor=fill)

    return edit


def quarter_turn(image: Image.Image, random: Random) -> Image.Image:
    """By 90 degrees, either way."""
    return image.transpose(random.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)))


def aspect(low: float, high: float) -> Edit:
    """Squeeze one side to a share between these."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        width, height = scaled(image, random.uniform(low, high))
        wide = random.choice((True, False))
        return image.resize((width, image.height) if wide else (image.width, height), _BICUBIC)

    return edit


def resize(low: float, high: float) -> Edit:
    """Fewer pixels, by any of three filters."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        kernel = random.choice((Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.NEAREST))
        return image.resize(scaled(image, random.uniform(low, high)), kernel)

    return edit


def perspective(low: float, high: float) -> Edit:
    """Each corner moves inward by up to a share of the sides; what lies outside has one colour."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        reach = random.uniform(low, high)
        x, y = image.width * reach, image.height * reach
        signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
        corners = ((0, 0), (0, image.height), (image.width, image.height), (image.width, 0))
        # Where each corner of the result lies in the picture: outside it.
        moved = [
            (cx - sx * random.random() * x, cy - sy * random.random() * y)
            for (cx, cy), (sx, sy) in zip(corners, signs, strict=True)
        ]
        quad = tuple(value for corner in moved for value in corner)
        return image.transform(image.size, Image.Transform.QUAD, quad, _BICUBIC, fillcolor=any_colour(random))

    return edit


def shear(low: float, high: float) -> Edit:
    """Slant along one side by a share of it."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        slant = random.uniform(low, high) * random.choice((-1, 1))
        along_x = random.choice((True, False))
        width, height = image.size
        across = abs(slant) * (height if along_x else width)
        size = (round(width + across), height) if along_x else (width, round(height + across))
        start = -across if slant < 0 else 0.0
        matrix = (1, slant, -across - start, 0, 1, 0) if along_x else (1, 0, 0, slant, 1, -across - start)
        return image.transform(size, Image.Transform.AFFINE, matrix, _BICUBIC, fillcolor=any_colour(random))

    return edit


def lens(low: float, high: float) -> Edit:
    """A barrel or a pincushion: radial distortion of a strength between these, either way."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        bend = random.uniform(low, high) * random.choice((-1, 1))
        # The farthest corner stays inside, so that nothing has to be made up.
        scale = 1 / (1 + max(0.0, bend))

        def source(x: float, y: float) -> tuple[float, float]:
            u, v = 2 * x / image.width - 1, 2 * y / image.height - 1
            factor = scale * (1 + bend * (u * u + v * v) / 2)
            return (u * factor + 1) * image.width / 2, (v * factor + 1) * image.height / 2

        xs = [round(image.width * n / _GRID) for n in range(_GRID + 1)]
        ys = [round(image.height * n / _GRID) for n in range(_GRID + 1)]
        mesh = []
        for left, right in pairwise(xs):
            for top, bottom in pairwise(ys):
                corners = (source(left, top), source(left, bottom), source(right, bottom), source(right, top))
                mesh.append(((left, top, right, bottom), tuple(value for corner in corners for value in corner)))
        return image.transform(image.size, Image.Transform.MESH, mesh, _BICUBIC)

    return edit
