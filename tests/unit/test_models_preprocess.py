"""Promise: one picture gives the same pixels to the encoder, however its file stores them."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.preprocess import SIDE, Reduction, reduce, upright_rgb

WIDTH, HEIGHT = 320, 200


def picture() -> Image.Image:
    """A smooth colour picture without symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = (x * 255 // WIDTH, y * 255 // HEIGHT, (x + 2 * y) * 255 // (WIDTH + 2 * HEIGHT))
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference in levels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def stored(image: Image.Image, file_format: str) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, file_format)
    return Image.open(buffer)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_modes_agree(mode: str) -> None:
    """RGBA, palette and CMYK pictures give RGB's pixels. Break: return `image` itself in `to_rgb`."""
    converted = picture().quantize(256) if mode == "P" else picture().convert(mode)
    pixels = reduce(converted)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    assert distance(pixels, reduce(picture())) < 4


@pytest.mark.parametrize("mode", ["L", "LA", "I", "I;16", "I;16B"])
def test_grey_modes_agree(mode: str) -> None:
    """16-bit grey is scaled, not clipped to white. Break: drop the `startswith("I")` branch of `to_rgb`."""
    grey = picture().convert("L")
    if mode.startswith("I"):
        wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        image = (
            wide.convert("I")
            if mode == "I"
            else Image.frombytes(
                mode, grey.size, np.asarray(wide).astype(">u2" if mode == "I;16B" else "<u2").tobytes()
            )
        )
    else:
        image = grey.convert(mode)
    assert image.mode == mode
    assert distance(reduce(image), reduce(grey)) < 1


def test_sixteen_bit_png_is_read() -> None:
    """A 16-bit PNG, as Pillow opens it, keeps its greys. Break: as above."""
    grey = picture().convert("L")
    image = stored(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")
    assert distance(reduce(image), reduce(grey)) < 1


def test_transparent_parts_show_white() -> None:
    """What a browser shows on white is what is encoded, for RGBA, LA, palette and RGB with a transparent
    colour. Break: `image.convert("RGB")` for every mode."""
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (10, 200, 30, 0))
    palette = stored(Image.new("P", (WIDTH, HEIGHT), 0), "PNG")
    palette.info["transparency"] = 0
    keyed = Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30))
    keyed.info["transparency"] = (10, 20, 30)
    for image in (clear, clear.convert("LA"), palette, keyed):
        assert (reduce(image) == 255).all(), image.mode


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A phone's turned photo gives the upright photo's pixels. Break: swap ROTATE_90 and ROTATE_270."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    turned = picture() if undo is None else picture().transpose(undo)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    image = Image.open(buffer)
    assert distance(reduce(image), reduce(picture())) < 1


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0junk", b"\xff" * 9])
def test_malformed_exif_is_upright(exif: bytes) -> None:
    """A broken EXIF block costs the orientation, not the picture. Break: let `getexif` raise."""
    image = picture()
    image.info["exif"] = exif
    assert distance(reduce(image), reduce(picture())) == 0


def test_reduction_is_antialiased() -> None:
    """A fine checkerboard becomes grey, not moire. Break: Image.Resampling.NEAREST."""
    y, x = np.mgrid[0 : 5 * SIDE, 0 : 5 * SIDE]
    board = Image.fromarray(((x + y) % 2 * 255).astype(np.uint8))
    assert np.abs(reduce(board).astype(int) - 127).max() < 20


def test_decoder_children_stay_light() -> None:
    """Importing the preprocessing loads no runtime. Break: `import openvino` anywhere it imports."""
    code = "import sys, models.preprocess; print(*sorted({'torch', 'openvino', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_is_cut_from_the_upright_picture(orientation: int) -> None:
    """However a camera stored it. Break: swap two orientations of `_LYING`, `_FROM_RIGHT` or `_FROM_BELOW`."""
    image, exif = picture(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=exif)
    kept = Image.open(buffer)
    upright = upright_rgb(kept)
    box = (0.1, 0.25, 0.6, 0.375)
    left, top, right, bottom = box
    width, height = upright.size
    wanted = upright.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
    assert distance(Reduction(kept).part(*box), reduce(wanted)) < 2
