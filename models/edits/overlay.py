"""Edits that put something on top of the picture, which keeps its size."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageDraw, ImageFilter

from models.edits.shared import BRIGHT, COLOURS, any_colour, font, phrase

_INK = "#222222"


def text(image: Image.Image, random: Random) -> Image.Image:
    """A meme: one or two lines in capitals, white with a dark edge, across the picture's top or bottom."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    size = image.width * random.uniform(0.06, 0.1)
    middle = image.width // 2
    places = random.choice((("top",), ("bottom",), ("top", "bottom")))
    colour = random.choice(("white", "white", "yellow", "black"))
    for place in places:
        words = phrase(random, random.randint(2, 4)).upper()
        y = size * 0.8 if place == "top" else image.height - size * 0.8
        edge = "black" if colour != "black" else "white"
        draw.text(
            (middle, y), words, colour, font(size), anchor="mm", stroke_width=round(size / 12) + 1, stroke_fill=edge
        )
    return result


def sticker(image: Image.Image, random: Random) -> Image.Image:
    """One or two round faces, each a fifth to a third of the short side wide."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.randint(1, 2)):
        wide = round(min(image.size) * random.uniform(0.2, 0.34))
        x, y = random.randint(0, image.width - wide), random.randint(0, image.height - wide)
        draw.ellipse((x, y, x + wide, y + wide), random.choice(BRIGHT), _INK, max(1, wide // 30))
        for eye in (0.3, 0.7):
            left = x + wide * eye
            draw.ellipse((left - wide / 14, y + wide * 0.3, left + wide / 14, y + wide * 0.45), _INK)
        mouth = (x + wide * 0.25, y + wide * 0.35, x + wide * 0.75, y + wide * 0.8)
        draw.arc(mouth, 10, 170, _INK, wide // 16 + 1)
    return result


def shapes(image: Image.Image, random: Random) -> Image.Image:
    """Stickers of other kinds: stars, hearts, boxes, bubbles; for training only."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.randint(1, 4)):
        side = round(min(image.size) * random.uniform(0.1, 0.38))
        x, y = random.randint(0, image.width - side), random.randint(0, image.height - side)
        box, colour = (x, y, x + side, y + max(1, side * 3 // 4)), any_colour(random)
        kind = random.randrange(4)
        if kind == 0:
            draw.regular_polygon(
                (x + side / 2, y + side / 2, side / 2), random.randint(3, 8), random.randrange(360), colour
            )
        elif kind == 1:
            draw.rounded_rectangle(box, side // 5, colour, any_colour(random), max(1, side // 25))
            draw.text(
                (x + side // 2, y + side * 3 // 8), phrase(random, 1), any_colour(random), font(side / 4), anchor="mm"
            )
        elif kind == 2:  # noqa: PLR2004 - the third of four
            draw.pieslice((x, y, x + side, y + side), random.randrange(360), random.randrange(90, 700), colour)
        else:
            draw.ellipse(box, colour, any_colour(random), max(1, side // 20))
    return result


def watermark(image: Image.Image, random: Random) -> Image.Image:
    """A half-transparent name, repeated over the whole picture."""
    layer = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(layer)
    size = max(12, min(image.size) // 12)
    letters, name, strength = font(size), phrase(random, 2), random.randint(70, 130)
    for row, y in enumerate(range(0, image.height, size * 3)):
        for x in range(-size * 3 * (row % 2), image.width, size * 9):
            draw.text((x, y), name, strength, letters)
    return Image.composite(Image.new("RGB", image.size, "white"), image, layer)


def logo(image: Image.Image, random: Random) -> Image.Image:
    """One half-transparent line of text, anywhere, turned anyhow; for training only."""
    layer = Image.new("L", image.size, 0)
    size = min(image.size) * random.uniform(0.06, 0.2)
    place = (random.uniform(0.1, 0.9) * image.width, random.uniform(0.1, 0.9) * image.height)
    ImageDraw.Draw(layer).text(place, phrase(random, 2), random.randint(80, 220), font(size), anchor="mm")
    layer = layer.rotate(random.uniform(-40, 40), center=place)
    return Image.composite(Image.new("RGB", image.size, any_colour(random)), image, layer)


def scribble(image: Image.Image, random: Random) -> Image.Image:
    """Two to five strokes of a marker, a circle around something, an arrow."""
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.randint(2, 5)):
        wide = max(2, round(min(image.size) * random.uniform(0.012, 0.03)))
        x, y = random.uniform(0, image.width), random.uniform(0, image.height)
        points = [(x, y)]
        for _ in range(random.randint(4, 12)):
            x += random.uniform(-0.2, 0.2) * image.width
            y += random.uniform(-0.2, 0.2) * image.height
            points.append((x, y))
        draw.line(points, random.choice(COLOURS), wide, joint="curve")
    x, y = random.uniform(0.1, 0.6) * image.width, random.uniform(0.1, 0.6) * image.height
    draw.ellipse((x, y, x + image.width * 0.3, y + image.height * 0.3), None, "#ff2020", max(2, min(image.size) // 50))
    return result


def censor(image: Image.Image, random: Random) -> Image.Image:
    """One or two regions made unreadable: a black bar, coarse squares or a blur."""
    result = image.copy()
    for _ in range(random.randint(1, 2)):
        width = round(image.width * random.uniform(0.2, 0.45))
        height = round(image.height * random.uniform(0.12, 0.3))
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        box = (left, top, left + width, top + height)
        part, kind = result.crop(box), random.randrange(3)
        if kind == 0:
            part = Image.new("RGB", part.size, "black")
        elif kind == 1:
            small = part.resize((max(1, width // 12), max(1, height // 12)), Image.Resampling.BOX)
            part = small.resize(part.size, Image.Resampling.NEAREST)
        else:
            part = part.filter(ImageFilter.GaussianBlur(max(image.size) / 25))
        result.paste(part, box)
    return result
