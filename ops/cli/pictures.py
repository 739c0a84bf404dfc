"""Which image files `dejaview send` sends, under which ids."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ops.cli.errors import CommandError
from schemas.events import UPLOAD_ID_CHARS_MAX

Ids = Literal["name", "random"]

CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file."""

    upload_id: str
    file: Path
    content_type: str
    byte_count: int


def find_pictures(paths: Sequence[Path], ids: Ids) -> list[Picture]:
    """The image files of these paths, folders searched to their depth, in the order of their names.

    Raises:
        CommandError: a path does not exist or holds no image, or two files would get one id.
    """
    found: dict[str, Picture] = {}
    for path in paths:
        for file, name in _named(path):
            upload_id = str(uuid.uuid4()) if ids == "random" else _upload_id(file, name)
            if upload_id in found:
                raise CommandError(
                    f"{found[upload_id].file} and {file} would both be upload {upload_id!r}; "
                    "send the folder above them, or use --ids random"
                )
            found[upload_id] = Picture(upload_id, file, CONTENT_TYPES[file.suffix.lower()], _byte_count(file))
    return list(found.values())


def _named(path: Path) -> Iterator[tuple[Path, str]]:
    """Files and their names relative to the path (a file's own name if it is one)."""
    if not path.exists():
        raise CommandError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        if not _is_image(path):
            raise CommandError(f"{path}: not an image file; known are {', '.join(CONTENT_TYPES)}")
        yield path, path.name
        return
    files = sorted(file for file in _files(path) if _is_image(file))
    if not files:
        raise CommandError(f"{path}: no image files in this folder; known are {', '.join(CONTENT_TYPES)}")
    for file in files:
        yield file, file.relative_to(path).as_posix()


def _files(folder: Path) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        raise CommandError(f"{error.filename}: {error.strerror}") from error

    for here, _, names in os.walk(folder, onerror=refused):
        yield from (Path(here) / name for name in names)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in CONTENT_TYPES


def _byte_count(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


def _upload_id(file: Path, name: str) -> str:
    # An id is text without control characters; a file's name may be any bytes.
    upload_id = "".join(character if character.isprintable() else "_" for character in name)
    if len(upload_id) > UPLOAD_ID_CHARS_MAX:
        raise CommandError(
            f"{file}: its name is longer than an upload id may be ({UPLOAD_ID_CHARS_MAX}); use --ids random"
        )
    return upload_id
