"""Many small pictures, drawn by a seed: cheap to decode, a share of them copies of earlier ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from models.training.edits import EDITS
from tests.support.deployment import SentUpload
from tests.support.photos import jpeg

SIZE = (160, 120)
_COPY_EDITS = ("jpeg_50", "brightness", "contrast", "grey", "mirror")
_REMEMBERED = 400


def drawn(seed: int) -> Image.Image:
    """One picture: soft light, some shapes, a little texture."""
    rng = np.random.default_rng(seed)
    light = rng.integers(0, 256, (int(rng.integers(2, 6)), int(rng.integers(2, 6)), 3), dtype=np.uint8)
    image = Image.fromarray(light).resize(SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        x, y = int(rng.integers(0, SIZE[0])), int(rng.integers(0, SIZE[1]))
        w, h = int(rng.integers(8, 80)), int(rng.integers(8, 70))
        colour = tuple(int(part) for part in rng.integers(0, 256, 3))
        kind = int(rng.integers(0, 3))
        if kind == 0:
            pen.rectangle((x, y, x + w, y + h), fill=colour)
        elif kind == 1:
            pen.ellipse((x, y, x + w, y + h), fill=colour)
        else:
            pen.line((x, y, w, h), fill=colour, width=int(rng.integers(1, 9)))
    return image


def uploads(count: int, seed: int, tenants: int, partitions: int, copies: float = 1 / 3) -> Iterator[SentUpload]:
    """Uploads in a random order of tenants and partitions.

    Args:
        copies: share of edited or byte-identical copies of an earlier picture of the same tenant; one in twenty of
            them is the sender's repeat: the same id and the same bytes.
    """
    rng = random.Random(seed)
    earlier: dict[str, list[tuple[Image.Image, SentUpload]]] = {f"tenant-{n}": [] for n in range(tenants)}
    for n in range(count):
        tenant = f"tenant-{rng.randrange(tenants)}"
        partition = rng.randrange(partitions)
        known = earlier[tenant]
        if known and rng.random() < copies:
            image, first = rng.choice(known)
            kind = rng.random()
            if kind < 0.05:
                yield SentUpload(first.upload_id, first.value, tenant, partition)
                continue
            if kind < 0.3:
                yield SentUpload(f"{seed}-{n}", first.value, tenant, partition)
                continue
            value = jpeg(EDITS[rng.choice(_COPY_EDITS)](image, random.Random(n)))
            yield SentUpload(f"{seed}-{n}", value, tenant, partition)
            continue
        image = drawn(seed * 1_000_003 + n)
        made = SentUpload(f"{seed}-{n}", jpeg(image, 85), tenant, partition)
        known.append((image, made))
        if len(known) > _REMEMBERED:
            known.pop(rng.randrange(len(known)))
        yield made
