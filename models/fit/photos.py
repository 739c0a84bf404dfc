"""Photos in tar files, read one at a time. Only numbers made from them ever enter the project."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.encoder import Encoder
from models.preprocess import reduce
from schemas.events import EMBEDDING_SIZE, Vector

BATCH = 32
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class Photo:
    """One file of a tar."""

    sha256: str
    content: bytes

    def open(self) -> Image.Image:
        return Image.open(BytesIO(self.content)).convert("RGB")


def read_photos(paths: Iterable[Path]) -> Iterator[Photo]:
    """The photos of these tar files, in the files' order."""
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.lower().endswith(_SUFFIXES) else None
                if file is None:
                    continue
                content = file.read()
                yield Photo(hashlib.sha256(content).hexdigest(), content)


def encode_all(encoder: Encoder, images: Iterable[Image.Image]) -> Vector:
    """Embeddings of many pictures, float32 [N, 256], a batch in memory at a time."""
    parts = [np.empty((0, EMBEDDING_SIZE), dtype=np.float32)]
    batch = []
    for image in images:
        batch.append(reduce(image))
        if len(batch) == BATCH:
            parts.append(encoder.encode(np.stack(batch)))
            batch.clear()
    if batch:
        parts.append(encoder.encode(np.stack(batch)))
    return np.concatenate(parts)
