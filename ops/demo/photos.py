"""The photographs of the demo: those inside scikit-image's wheel, or a folder's."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stream.errors import SettingError

SUFFIXES = (".gif", ".jpeg", ".jpg", ".png", ".webp")
# Icons are no photographs, and above the pixels dejaview judges nothing (intake.pixels_max).
SIDE_MIN = 64
PIXELS_MAX = 40_000_000
NAME_CHARS_MAX = 80


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture file. Photographs of one scene are copies of each other in the eyes of some; `scene` tells."""

    name: str
    path: Path
    scene: str
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """The photographs of one run.

    `second_views` show a scene of `photos` again: sent, reported, and counted neither way. Only where `distinct`
    is a duplicate among the photographs themselves an error.
    """

    photos: list[Photo]
    second_views: list[Photo]
    origin: str
    distinct: bool
    skipped: list[str]


# Source and licence as the docstrings in skimage/data/_fetchers.py state them.
_WHEEL = (
    ("astronaut.png", "Eileen Collins, astronaut; NASA Great Images", "public domain"),
    ("brick.png", "brick wall; CC0Textures", "CC0"),
    ("camera.png", "photographer at work; Lav Varshney", "CC0"),
    ("chelsea.png", "a cat; Stéfan van der Walt", "CC0"),
    ("coffee.png", "coffee cup; Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    ("coins.png", "Greek coins from Pompeii; Brooklyn Museum Collection", "no known copyright restrictions"),
    ("grass.png", "grass; linolafett, DeviantArt", "CC0"),
    ("gravel.png", "gravel; CC0Textures", "CC0"),
    ("hubble_deep_field.jpg", "Hubble eXtreme Deep Field; NASA, HubbleSite", "public domain"),
    ("ihc.png", "stained colon tissue under a microscope; CMMI", "no known copyright restrictions"),
    ("moon.png", "the surface of the Moon", "not stated by scikit-image"),
    ("motorcycle_left.png", "motorcycle, left view; Middlebury 2014 stereo benchmark", "not stated by scikit-image"),
    ("page.png", "photograph of a printed page", "not stated by scikit-image"),
    ("retina.jpg", "human retina; Mikael Häggström, Wikimedia Commons", "CC0"),
    ("rocket.jpg", "launch of DSCOVR on a Falcon 9; SpaceX", "public domain"),
)
_SECOND_VIEW = ("motorcycle_right.png", "motorcycle, right view; the same scene 193 mm to the side", "as the left view")


def collection(folder: Path | None, photos_max: int) -> Collection:
    """At most `photos_max` photographs, of `folder` or of scikit-image's wheel.

    Raises:
        SettingError: there are none, and why.
    """
    return wheel(photos_max) if folder is None else in_folder(folder, photos_max)


def wheel(photos_max: int) -> Collection:
    """Opened by path: the functions of skimage.data may download."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SettingError(
            "the demo's photographs are those inside scikit-image, which is not installed; "
            "pip install 'dejaview[demo]', or name a folder of pictures: dejaview demo FOLDER"
        )
    data = Path(spec.origin).parent / "data"
    photos = [Photo(name, data / name, Path(name).stem, *rest) for name, *rest in _WHEEL if (data / name).is_file()]
    if not photos:
        raise SettingError(f"{data} holds none of the photographs expected; name a folder: dejaview demo FOLDER")
    chosen = photos[:photos_max]
    name, source, licence = _SECOND_VIEW
    second = [Photo(name, data / name, "motorcycle_left", source, licence)]
    shown = any(photo.scene == "motorcycle_left" for photo in chosen) and second[0].path.is_file()
    return Collection(chosen, second if shown else [], f"scikit-image's wheel ({data})", distinct=True, skipped=[])


def in_folder(folder: Path, photos_max: int) -> Collection:
    """Pictures below a folder by path, numbered. Icons, giants and what does not open are skipped."""
    if not folder.is_dir():
        raise SettingError(f"{folder} is not a folder; name one that holds pictures ({', '.join(SUFFIXES)})")
    photos: list[Photo] = []
    skipped: list[str] = []
    for path in _pictures(folder):
        if len(photos) == photos_max:
            break
        name = _printable(str(path.relative_to(folder)))
        if _opens(path):
            numbered = f"{len(photos) + 1:02} {name}"
            photos.append(Photo(numbered, path, numbered, "your folder"))
        else:
            skipped.append(name)
    if not photos:
        raise SettingError(f"{folder} holds no picture that opens ({', '.join(SUFFIXES)}); name another folder")
    return Collection(photos, [], str(folder), distinct=False, skipped=skipped)


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())


def _printable(name: str) -> str:
    """A file's name may hold anything; an upload id holds at most 256 characters and no control characters."""
    clean = "".join(character if character.isprintable() else "�" for character in name)
    return clean if len(clean) <= NAME_CHARS_MAX else f"…{clean[-NAME_CHARS_MAX:]}"


def _opens(path: Path) -> bool:
    """Decoded once, whole: half a file still has a good header."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                if min(image.size) < SIDE_MIN or image.width * image.height > PIXELS_MAX:
                    return False
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            return False
    return True
