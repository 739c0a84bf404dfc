"""Photos in folders and tar files, read one at a time. Only numbers made from them ever enter the project."""

from __future__ import annotations

import base64
import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.encoder import Encoder
from models.preprocess import reduce, upright_rgb
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import SettingError

BATCH = 32
SPLITS = Path(__file__).parent / "splits"
TUNE, TEST, UNSEEN = "bsds500-tune", "bsds500-test", "train-held-out"
"""200 photos of BSDS500 to tune and calibrate on, its other 300 to test on, 2,000 of `train` that no training sees."""

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class Photo:
    """One picture file. `name` is its path within the folder or tar."""

    sha256: str
    name: str
    content: bytes

    def open(self) -> Image.Image:
        """Its first frame in RGB, upright.

        Raises:
            OSError: Pillow cannot read it.
        """
        return upright_rgb(Image.open(BytesIO(self.content)))


def read_photos(paths: Iterable[Path]) -> Iterator[Photo]:
    """The photos of these folders, tar files and picture files, in the order of the paths; folders by name.

    Raises:
        SettingError: a path is none of these.
    """
    for path in paths:
        for name, content in _files(path):
            yield Photo(hashlib.sha256(content).hexdigest(), name, content)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in _SUFFIXES and file.is_file():
                yield str(file.relative_to(path)), file.read_bytes()
    elif path.suffix.lower() in _SUFFIXES and path.is_file():
        yield path.name, path.read_bytes()
    elif path.is_file() and tarfile.is_tarfile(path):
        yield from _members(path)
    else:
        raise SettingError(f"{path} is no folder, tar file or picture")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.lower().endswith(_SUFFIXES) else None
            if file is not None:
                yield member.name, file.read()


def split(name: str) -> frozenset[str]:
    """The SHA-256 of the photos in one of the project's lists."""
    return frozenset((SPLITS / f"{name}.txt").read_text().split())


def held_out() -> frozenset[str]:
    """What nothing is trained or fitted on, but for the tuning part's own figures."""
    return split(TEST) | split(TUNE) | split(UNSEEN)


def thumbnail_url(image: Image.Image, side: int) -> str:
    """A JPEG of at most this side as a data URL: a page that holds it needs no other file."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
