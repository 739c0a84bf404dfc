"""Where fuzzing starts: small sound pictures and records of every kind, made here; nothing is committed.

python -m tests.fuzz.seeds FOLDER      writes FOLDER/decode and FOLDER/cloudevents
"""

from __future__ import annotations

import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from tests.support.poison import compressed_chunk, png


def pictures() -> dict[str, bytes]:
    """Name -> bytes: what each format can hold, as small as it gets."""
    coarse = np.random.default_rng(11).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    colour = Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC)
    alpha = colour.convert("RGBA")
    alpha.putalpha(128)
    exif = Image.Exif()
    exif[274], exif[306] = 6, "2026:11:21"
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 50, zip=True)
    text.add_itxt("c", "d" * 50, zip=True)
    frames = [colour.convert("P"), colour.rotate(90).convert("P")]
    return {
        "plain.jpg": _saved(colour, "JPEG"),
        "progressive.jpg": _saved(colour, "JPEG", progressive=True, exif=exif),
        "grey.jpg": _saved(colour.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(colour.convert("CMYK"), "JPEG"),
        "several.jpg": _saved(colour, "MPO", save_all=True, append_images=[colour]),
        "plain.png": _saved(colour, "PNG", exif=exif, pnginfo=text),
        "alpha.png": _saved(alpha, "PNG"),
        "palette.png": _saved(colour.convert("P"), "PNG", transparency=3),
        "grey16.png": _saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
        "frames.png": _saved(colour, "PNG", save_all=True, append_images=[alpha.convert("RGB")]),
        "profile.png": png(2, 2, compressed_chunk(b"iCCP", 500), (b"IDAT", zlib.compress(bytes(14)))),
        "lossy.webp": _saved(colour, "WEBP", exif=exif),
        "lossless.webp": _saved(alpha, "WEBP", lossless=True),
        "frames.webp": _saved(alpha, "WEBP", save_all=True, append_images=[alpha.rotate(90)]),
        "plain.gif": _saved(frames[0], "GIF"),
        "frames.gif": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0, transparency=1),
    }


def events() -> dict[str, bytes]:
    """Name -> input of `fuzz_cloudevents`: headers as lines `name:value`, an empty line, the value."""
    binary = "ce_specversion:1.0\nce_type:x\nce_source:/s\nce_id:1\nce_tenant:t\nce_time:2026-11-21T00:00:00Z\n"
    event = {"specversion": "1.0", "type": "x", "source": "/s", "id": "1", "tenant": "t"}
    reference = {**event, "datacontenttype": "application/json", "data": {"uri": "s3://b/k"}}
    image = {**event, "datacontenttype": "image/png", "data_base64": "iVBORw=="}
    mode = "content-type:application/cloudevents+json\n\n"
    return {
        "image": f"{binary}content-type:image/png\n\nx".encode(),
        "reference": f'{binary}content-type:application/json\n\n{{"uri": "s3://b/k", "sha256": null}}'.encode(),
        "structured-reference": (mode + json.dumps(reference)).encode(),
        "structured-image": (mode + json.dumps(image)).encode(),
    }


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def main(folder: Path) -> None:
    for kind, made in (("decode", pictures()), ("cloudevents", events())):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (folder / kind / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
