"""Many small pictures, drawn by a seed: cheap to decode, a share of them copies of earlier ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from models.edits import EDITS
from tests.support.deployment import SentUpload
from tests.support.photos import jpeg

SIZE = (160, 120)
_COPY_EDITS = ("jpeg_50", "brightness", "contrast", "grey", "mirror")
_REMEMBERED = 400


def drawn(seed: int) -> Image.Image:
    """One picture: a coarse mosaic with patches of stripes, rings and noise."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (int(rng.integers(2, 24)), int(rng.integers(2, 24)), 3), dtype=np.uint8)
    image = Image.fromarray(tiles).resize(SIZE, Image.Resampling(int(rng.choice([0, 3]))))
    for _ in range(int(rng.integers(2, 7))):
        patch = _patch(rng)
        patch = patch.rotate(float(rng.uniform(0, 360)), expand=True) if rng.random() < 0.5 else patch
        image.paste(patch, (int(rng.integers(-20, SIZE[0] - 20)), int(rng.integers(-20, SIZE[1] - 20))))
    return image


def _patch(rng: np.random.Generator) -> Image.Image:
    width, height = int(rng.integers(30, 120)), int(rng.integers(30, 100))
    y, x = np.mgrid[:height, :width]
    kind = int(rng.integers(0, 3))
    if kind == 0:
        tiles = rng.integers(0, 256, (int(rng.integers(1, 30)), int(rng.integers(1, 30)), 3), dtype=np.uint8)
        return Image.fromarray(tiles).resize((width, height), Image.Resampling.NEAREST)
    if kind == 1:
        wave = x * rng.uniform(0.05, 1) + y * rng.uniform(-1, 1)
    else:
        wave = np.hypot(x - width * rng.random(), y - height * rng.random()) * rng.uniform(0.1, 1)
    colours = [127 + 127 * np.sin(wave + phase) for phase in rng.uniform(0, 6, 3)]
    return Image.fromarray(np.stack(colours, -1).astype(np.uint8))


def uploads(
    count: int, seed: int, tenants: int, partitions: int, copies: float = 1 / 3, bad: float = 0.0
) -> Iterator[SentUpload]:
    """Uploads in a random order of tenants and partitions.

    Args:
        copies: share of edited or byte-identical copies of an earlier picture of the same tenant; one in twenty of
            them is the sender's repeat: the same id and the same bytes.
        bad: share of those that end as dead letters: no pictures, and other pictures under an id that was used.
    """
    rng = random.Random(seed)
    earlier: dict[str, list[tuple[Image.Image, SentUpload]]] = {f"tenant-{n}": [] for n in range(tenants)}
    for n in range(count):
        tenant = f"tenant-{rng.randrange(tenants)}"
        partition = rng.randrange(partitions)
        known = earlier[tenant]
        if bad and rng.random() < bad:
            taken = rng.choice(known)[1].upload_id if known and rng.random() < 0.5 else None
            value = jpeg(drawn((seed + 1) * 7_000_003 + n), 85) if taken else f"no picture {n}".encode()
            yield SentUpload(taken or f"{seed}-{n}", value, tenant, partition)
            continue
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
