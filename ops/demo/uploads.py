"""What the demo uploads: each photograph, edited copies of it, its very bytes again, and the same upload twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from models.edits import EDITS
from ops.demo.photos import Photo

# A copy on the web is rarely larger, and edits of 12 megapixels would take the demo's time.
EDITED_SIDE_MAX = 1024
THUMBNAIL_SIDE = 150
THUMBNAIL_QUALITY = 55
COPY_QUALITY = 88

# Of every family one or two, the hard ones among them; `dejaview eval` measures all of them.
DEMO_EDITS = (
    "crop_70", "crop_50", "mirror", "rotate_15", "rotate_90", "aspect", "brightness", "grey", "blur", "jpeg_10",
    "caption", "sticker", "watermark", "letterbox", "screenshot", "two_in_a_row",
)  # fmt: skip

_IN_WORDS = {
    "crop_70": "cropped to 70 % of its area",
    "crop_50": "cropped to half of its area",
    "mirror": "mirrored",
    "rotate_15": "turned by 15°",
    "rotate_90": "turned by 90°",
    "aspect": "squeezed",
    "brightness": "brighter or darker",
    "grey": "made grey",
    "blur": "blurred",
    "jpeg_10": "saved as JPEG, quality 10",
    "caption": "caption added",
    "sticker": "stickers put on",
    "watermark": "watermark added",
    "letterbox": "bars added",
    "screenshot": "screenshot of a phone",
    "two_in_a_row": "two edits in a row",
    "identical": "the same bytes, another upload id",
}


class Kind(StrEnum):
    ORIGINAL = "original"
    EDITED = "edited"
    IDENTICAL = "identical"
    REPEAT = "repeat"
    SECOND_VIEW = "second_view"


@dataclass(frozen=True, slots=True)
class Upload:
    """One event to send. `thumbnail` is a WebP of at most `THUMBNAIL_SIDE`; a repeat has its original's id."""

    upload_id: str
    kind: Kind
    photo: Photo
    edit: str
    file: Path
    sha256: str
    thumbnail: bytes

    @property
    def done_to_it(self) -> str:
        return in_words(self.edit)


def in_words(edit: str) -> str:
    return _IN_WORDS.get(edit, edit.replace("_", " "))


class Workshop:
    """Writes the files of the uploads into a folder. Names there are plain: references take no %, ? or #."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._written = 0

    def originals(self, photos: Sequence[Photo], kind: Kind = Kind.ORIGINAL) -> list[Upload]:
        """The files as they are."""
        return [self._original(photo, kind) for photo in photos]

    def copies(self, originals: Sequence[Upload], edits: Sequence[str]) -> Iterator[Upload]:
        """Edited and identical copies and a repeat of each, one after the other."""
        for original in originals:
            picture = _opened(original.photo.path)
            for edit in edits:
                yield self._edited(original, picture, edit)
            yield self._identical(original)
            yield _again(original)

    def _original(self, photo: Photo, kind: Kind) -> Upload:
        file = self._next(photo.path.suffix.lower())
        shutil.copyfile(photo.path, file)
        thumbnail = _thumbnail(_opened(file))
        return Upload(f"{photo.name}/{kind}", kind, photo, str(kind), file, _sha256(file), thumbnail)

    def _edited(self, original: Upload, picture: Image.Image, edit: str) -> Upload:
        photo = original.photo
        image = EDITS[edit](picture, Random(f"{self._seed} {photo.name} {edit}"))  # noqa: S311 - pictures, no secrets
        file = self._next(".jpg")
        image.save(file, quality=COPY_QUALITY)
        return Upload(f"{photo.name}/{edit}", Kind.EDITED, photo, edit, file, _sha256(file), _thumbnail(image))

    def _identical(self, original: Upload) -> Upload:
        file = self._next(original.file.suffix)
        shutil.copyfile(original.file, file)
        name = f"{original.photo.name}/{Kind.IDENTICAL}"
        return Upload(name, Kind.IDENTICAL, original.photo, "identical", file, original.sha256, original.thumbnail)

    def _next(self, suffix: str) -> Path:
        self._written += 1
        return self._folder / f"{self._written:05}{suffix}"


def _again(original: Upload) -> Upload:
    """The sender sends the same event twice."""
    return Upload(
        original.upload_id,
        Kind.REPEAT,
        original.photo,
        "sent again",
        original.file,
        original.sha256,
        original.thumbnail,
    )


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (EDITED_SIDE_MAX, EDITED_SIDE_MAX))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((EDITED_SIDE_MAX, EDITED_SIDE_MAX))
    return upright


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY, method=4)
    return buffer.getvalue()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
