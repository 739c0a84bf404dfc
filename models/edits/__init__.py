"""Edits that people make to pictures before they upload them again. Pillow only, seeded.

Training draws from the families that are `trained`, each with strengths of a wide range; evaluation asks for the
named edits of all families, of fixed strengths. Six families, two each of geometry, overlay and colour, are never
trained on: how well their edits are recognised says what a new kind of edit has to expect.

An edit takes an RGB picture and a `random.Random`, leaves the picture alone and returns a new RGB one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image

from models.edits import colour, frame, geometry, overlay, quality
from models.edits.shared import Edit

__all__ = ["EDITS", "FAMILIES", "UNTRAINED", "Edit", "Family", "families", "paper_mix"]


@dataclass(frozen=True, slots=True)
class Family:
    """Edits of one kind.

    Attributes:
        kind: geometry, colour, quality, overlay, frame or chain.
        edits: by name, as evaluated.
        draw: of any strength, as trained; None where the family is kept from training.
    """

    kind: str
    edits: dict[str, Edit]
    draw: Edit | None


def _in_a_row(count: int, of: Sequence[Edit]) -> Edit:
    """So many different ones of these, one after the other."""

    def edit(image: Image.Image, random: Random) -> Image.Image:
        for one in random.sample(of, count):
            image = one(image, random)
        return image

    return edit


def _any_of(*edits: Edit) -> Edit:
    def edit(image: Image.Image, random: Random) -> Image.Image:
        return random.choice(edits)(image, random)

    return edit


def families(others: Sequence[Image.Image] = ()) -> dict[str, Family]:
    """All families; collages and pictures in pictures draw from these others, plain grounds if there are none."""
    single = _single(others)
    trained = [edit for family in single.values() if family.draw for edit in family.edits.values()]
    chains = {
        name: Family("chain", {name: _in_a_row(count, trained)}, None)
        for name, count in (("two_in_a_row", 2), ("three_in_a_row", 3))
    }
    return {**single, **chains}


def _single(others: Sequence[Image.Image]) -> dict[str, Family]:
    crop, slider = geometry.crop, colour.slider
    return {
        "crop": Family(
            "geometry",
            {f"crop_{percent}": crop(percent / 100, percent / 100) for percent in (90, 70, 50, 30, 20)},
            geometry.free_crop(0.12, 0.95),
        ),
        "mirror": Family("geometry", {"mirror": geometry.mirror}, geometry.mirror),
        "flip": Family("geometry", {"flip": geometry.upside_down}, geometry.upside_down),
        "rotation": Family(
            "geometry",
            {f"rotate_{degrees}": geometry.rotate(degrees, degrees) for degrees in (5, 15)},
            geometry.rotate(1, 35),
        ),
        "quarter_turn": Family("geometry", {"rotate_90": geometry.quarter_turn}, geometry.quarter_turn),
        "aspect": Family("geometry", {"aspect": geometry.aspect(0.65, 0.8)}, geometry.aspect(0.5, 0.9)),
        "resize": Family("geometry", {"resize": geometry.resize(0.25, 0.5)}, geometry.resize(0.15, 0.7)),
        "perspective": Family(
            "geometry", {"perspective": geometry.perspective(0.15, 0.3)}, geometry.perspective(0.05, 0.4)
        ),
        "shear": Family("geometry", {"shear": geometry.shear(0.15, 0.35)}, None),
        "lens": Family("geometry", {"lens": geometry.lens(0.2, 0.45)}, None),
        "brightness": Family(
            "colour",
            {"brightness": slider(colour.BRIGHTNESS, (0.6, 0.6), (1.5, 1.5))},
            slider(colour.BRIGHTNESS, (0.35, 0.9), (1.1, 1.9)),
        ),
        "contrast": Family(
            "colour",
            {"contrast": slider(colour.CONTRAST, (0.6, 0.6), (1.6, 1.6))},
            slider(colour.CONTRAST, (0.35, 0.9), (1.1, 2.2)),
        ),
        "saturation": Family(
            "colour",
            {"saturation": slider(colour.SATURATION, (0.3, 0.3), (2.0, 2.0))},
            slider(colour.SATURATION, (0.0, 0.8), (1.2, 3.0)),
        ),
        "hue": Family("colour", {"hue": colour.hue(25, 60)}, colour.hue(10, 180)),
        "grey": Family("colour", {"grey": colour.grey}, colour.grey),
        "film": Family("colour", {"film": colour.film(0.5, 1.0)}, colour.film(0.2, 1.0)),
        "duotone": Family("colour", {"duotone": colour.duotone}, None),
        "posterise": Family("colour", {"posterise": colour.posterise(3, 4)}, None),
        "blur": Family("quality", {"blur": quality.blur(0.005, 0.01)}, quality.blur(0.002, 0.015)),
        "noise": Family("quality", {"noise": quality.noise(30, 30)}, quality.noise(8, 70)),
        "jpeg": Family(
            "quality",
            {f"jpeg_{q}": quality.encoded("JPEG", q, q) for q in (50, 30, 10)},
            quality.encoded("JPEG", 5, 60),
        ),
        "webp": Family(
            "quality", {f"webp_{q}": quality.encoded("WEBP", q, q) for q in (30, 5)}, quality.encoded("WEBP", 1, 40)
        ),
        "text": Family("overlay", {"text": overlay.text}, overlay.text),
        "sticker": Family("overlay", {"sticker": overlay.sticker}, _any_of(overlay.sticker, overlay.shapes)),
        "watermark": Family("overlay", {"watermark": overlay.watermark}, _any_of(overlay.watermark, overlay.logo)),
        "scribble": Family("overlay", {"scribble": overlay.scribble}, None),
        "censor": Family("overlay", {"censor": overlay.censor}, None),
        "caption": Family("frame", {"caption": frame.caption}, frame.caption),
        "border": Family("frame", {"border": frame.border(0.04, 0.1)}, frame.border(0.02, 0.25)),
        "letterbox": Family("frame", {"letterbox": frame.letterbox}, frame.letterbox),
        "screenshot": Family("frame", {"screenshot": frame.phone}, frame.phone),
        "desktop": Family("frame", {"desktop": frame.desktop}, frame.desktop),
        "photo_of_screen": Family("frame", {"photo_of_screen": frame.filmed}, frame.filmed),
        "collage": Family("frame", {"collage": frame.collage(others)}, frame.collage(others)),
        "picture_in_picture": Family(
            "frame", {"picture_in_picture": frame.inside_another(others)}, frame.inside_another(others)
        ),
    }


FAMILIES = families()
EDITS: dict[str, Edit] = {name: edit for family in FAMILIES.values() for name, edit in family.edits.items()}
UNTRAINED = tuple(name for name, family in FAMILIES.items() if family.draw is None and family.kind != "chain")


def _jitter(image: Image.Image, random: Random) -> Image.Image:
    for kind in (colour.BRIGHTNESS, colour.CONTRAST, colour.SATURATION):
        image = colour.slider(kind, (0.6, 1.0), (1.0, 1.4))(image, random)
    return colour.hue(0, 18)(image, random)


paper_mix = _any_of(
    geometry.crop(0.9, 0.9), _any_of(geometry.mirror, geometry.upside_down), geometry.rotate(0, 15), _jitter
)
"""The edits of the paper this project starts from (IDedupNet): crops, flips, turns within 15 degrees, colours."""
