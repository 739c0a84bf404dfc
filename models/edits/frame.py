"""Edits that put something around the picture: bands, borders, screens, other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from models.edits.geometry import perspective, rotate
from models.edits.shared import BRIGHT, COLOURS, WORDS, Edit, any_colour, font, phrase

_PAGES = (("#ffffff", "#1a1a1a"), ("#121212", "#e8e8e8"), ("#f0f2f5", "#222222"), ("#15202b", "#f0f0f0"))


def caption(image: Image.Image, random: Random) -> Image.Image:
    """A meme: a band with a line of text above or below the picture."""
    band = round(image.height * random.uniform(0.12, 0.2))
    above = random.choice((True, False))
    paper, ink = random.choice((("white", "black"), ("white", "black"), ("black", "white")))
    canvas = Image.new("RGB", (image.width, image.height + band), paper)
    canvas.paste(image, (0, band if above else 0))
    middle = (image.width // 2, band // 2 if above else image.height + band // 2)
    ImageDraw.Draw(canvas).text(middle, phrase(random, 5), ink, font(min(band // 2, image.width // 14)), anchor="mm")
    return canvas


def border(low: float, high: float) -> Edit:
    """A frame of one colour, a share of the short side wide."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        wide = max(1, round(min(image.size) * random.uniform(low, high)))
        return ImageOps.expand(image, wide, random.choice(COLOURS))

    return edit


def letterbox(image: Image.Image, random: Random) -> Image.Image:
    """Bars, black, white or the picture itself blurred, that make it square, or twice as wide if it was square."""
    side = max(image.size)
    size = (side, side) if min(image.size) < 0.9 * side else (2 * side, side)
    kind = random.randrange(3)
    if kind < 2:  # noqa: PLR2004 - two of three
        return ImageOps.pad(image, size, color=("black", "white")[kind])
    ground = ImageOps.fit(image, size).filter(ImageFilter.GaussianBlur(side / 20))
    shown = ImageOps.contain(image, size)
    ground.paste(shown, ((size[0] - shown.width) // 2, (size[1] - shown.height) // 2))
    return ground


def phone(image: Image.Image, random: Random) -> Image.Image:
    """A phone's screen, 9 to 16 to 20: status bar, a name, the picture at full width, buttons, comments."""
    width, height = 360, random.randint(640, 780)
    ground, ink = random.choice(_PAGES)
    screen = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(screen)
    letters = font(14)
    draw.text((12, 6), f"{random.randint(0, 23):02}:{random.randint(0, 59):02}", ink, letters)
    draw.rectangle((width - 40, 8, width - 14, 18), outline=ink)
    draw.ellipse((12, 34, 44, 66), random.choice(BRIGHT))
    draw.text((54, 42), phrase(random, 2), ink, letters)
    shown = ImageOps.contain(image, (width, height - 200))
    screen.paste(shown, ((width - shown.width) // 2, 78))
    below = 78 + shown.height + 12
    for button in range(3):
        draw.ellipse((14 + 40 * button, below, 36 + 40 * button, below + 22), outline=ink, width=2)
    for line, y in enumerate(range(below + 36, height - 20, 24)):
        draw.text((14, y), phrase(random, 3 + line % 4), ink, letters)
    return screen


def desktop(image: Image.Image, random: Random) -> Image.Image:
    """A browser's window, 4 to 3 or 16 to 10: tabs, an address, the picture in the middle, text beside it."""
    height = 480
    width = random.choice((640, 768))
    ground, ink = random.choice(_PAGES)
    screen = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, width, 52), "#d8dbe0" if ground != "#121212" else "#303134")
    draw.rounded_rectangle((90, 27, width - 60, 47), 9, "#ffffff")
    draw.text(
        (100, 29), f"https://{random.choice(WORDS).lower()}.example/{random.choice(WORDS).lower()}", "#444444", font(12)
    )
    for tab in range(random.randint(1, 4)):
        draw.rounded_rectangle((8 + 120 * tab, 4, 122 + 120 * tab, 24), 5, "#ffffff" if tab == 0 else "#c4c8cf")
    side = random.choice((0, round(width * 0.24)))
    shown = ImageOps.contain(image, (width - side - 40, height - 110))
    left = side + (width - side - shown.width) // 2
    screen.paste(shown, (left, 70))
    for line, y in enumerate(range(70, height - 20, 20) if side else ()):
        draw.text((10, y), phrase(random, 2 + line % 2), ink, font(11))
    draw.text((left, 76 + shown.height), phrase(random, 6), ink, font(13))
    return screen


def filmed(image: Image.Image, random: Random) -> Image.Image:
    """A photo of a screen: moire, a slant, uneven light, a reflection, what stands around it."""
    shown = _moire(image, random)
    margin = round(max(image.size) * random.uniform(0.02, 0.12))
    bezel = random.choice(("#101010", "#202020", "#2a2a2a", "#c0c0c0"))
    shown = ImageOps.expand(shown, max(2, margin // 3), bezel)
    shown = ImageOps.expand(shown, margin, random.choice(("#3b3128", "#60656b", "#8a8378", "#1c2226", "#b0a898")))
    shown = rotate(0.0, 6.0)(perspective(0.02, 0.1)(shown, random), random)
    light = Image.linear_gradient("L").rotate(random.choice((0, 90, 180, 270))).resize(shown.size)
    light = light.point([round(175 + value * 80 / 255) for value in range(256)])
    shown = ImageChops.multiply(shown, Image.merge("RGB", (light, light, light)))
    shown = ImageEnhance.Contrast(shown).enhance(random.uniform(0.7, 1.0))
    glare = ImageOps.invert(Image.radial_gradient("L")).resize(shown.size).point([value // 3 for value in range(256)])
    glare = ImageChops.offset(glare, random.randrange(shown.width), random.randrange(shown.height))
    shown = ImageChops.screen(shown, Image.merge("RGB", (glare, glare, glare)))
    return shown.filter(ImageFilter.GaussianBlur(max(shown.size) * random.uniform(0.0005, 0.002)))


def _moire(image: Image.Image, random: Random) -> Image.Image:
    """Bands that the grids of screen and camera make between them."""
    pattern = Image.new("L", (image.width * 2, image.height * 2), 255)
    draw = ImageDraw.Draw(pattern)
    step = random.randint(3, 9)
    for y in range(0, pattern.height, step):
        draw.line((0, y, pattern.width, y), random.randint(150, 225), max(1, step // 3))
    pattern = pattern.rotate(random.uniform(-20, 20), Image.Resampling.BILINEAR)
    left, top = image.width // 2, image.height // 2
    pattern = pattern.crop((left, top, left + image.width, top + image.height))
    return ImageChops.multiply(image, Image.merge("RGB", (pattern, pattern, pattern)))


def collage(others: Sequence[Image.Image]) -> Edit:
    """The picture is one of two or four, side by side; the others are drawn from these, or plain colours."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        count = random.choice((2, 2, 4))
        gap = random.choice((0, 4, 8))
        width, height = image.size
        if max(image.size) / min(image.size) > 3:  # noqa: PLR2004 - a strip is no cell
            width = height = max(image.size)
        across = count == 4 or width < height  # noqa: PLR2004 - two by two
        columns, rows = (2, count // 2) if across else (1, 2)
        canvas = Image.new(
            "RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), random.choice(("white", "black"))
        )
        own = random.randrange(count)
        for cell in range(count):
            picture = image if cell == own else _other(others, image.size, random)
            place = ((cell % columns) * (width + gap), (cell // columns) * (height + gap))
            canvas.paste(
                ImageOps.fit(picture, (width, height)) if picture is not image else picture.resize((width, height)),
                place,
            )
        return canvas

    return edit


def inside_another(others: Sequence[Image.Image]) -> Edit:
    """The picture lies on another one and covers 30 to 60 % of it."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        ground = _other(others, (400, 300), random)
        ground = ImageOps.fit(ground, (400, 300) if image.width >= image.height else (300, 400))
        share = random.uniform(0.3, 0.6)
        # Its own aspect, and never more than nine tenths of a side.
        scale = min(
            (share * ground.width * ground.height / (image.width * image.height)) ** 0.5,
            0.9 * ground.width / image.width,
            0.9 * ground.height / image.height,
        )
        shown = image.resize(
            (max(8, round(image.width * scale)), max(8, round(image.height * scale))), Image.Resampling.BICUBIC
        )
        place = (random.randint(0, ground.width - shown.width), random.randint(0, ground.height - shown.height))
        ground.paste(shown, place)
        return ground

    return edit


def _other(others: Sequence[Image.Image], size: tuple[int, int], random: Random) -> Image.Image:
    """One of the others, or without any a ground of two colours."""
    if others:
        return random.choice(others).convert("RGB")
    ground = Image.linear_gradient("L").rotate(random.choice((0, 90, 180, 270))).resize(size)
    return ImageOps.colorize(ground, any_colour(random), any_colour(random))
