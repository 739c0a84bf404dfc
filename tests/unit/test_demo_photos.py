"""The demo takes only pictures that are there, never downloads, and sends files whose names any reference may hold.

Breaks that these tests catch, each tried: `photos_max` ignored; `load` left out of `_opens`; files named after the
pictures; an edit's seed without the photograph's name.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from models.edits import EDITS
from ops.demo.photos import NAME_CHARS_MAX, SIDE_MIN, collection
from ops.demo.uploads import DEMO_EDITS, THUMBNAIL_SIDE, Kind, Upload, Workshop, in_words
from stream.errors import SettingError


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (160, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").rotate(seed * 37).resize(size).convert("RGB").save(path)
    return path


def uploads_of(folder: Path, into: Path, seed: int = 1) -> list[Upload]:
    into.mkdir()
    workshop = Workshop(into, seed)
    originals = workshop.originals(collection(folder, 16).photos)
    return [*originals, *workshop.copies(originals, ("crop_70", "noise"))]


def test_a_folder_is_searched_below_and_bounded(tmp_path: Path) -> None:
    for number, name in enumerate(("b.png", "a/c.webp", "a/deep/d.gif", "e.jpg")):
        picture(tmp_path / name, number)
    (tmp_path / "notes.txt").write_text("no picture")
    names = [photo.name for photo in collection(tmp_path, 3).photos]
    assert names == ["01 a/c.webp", "02 a/deep/d.gif", "03 b.png"]
    assert len(collection(tmp_path, 16).photos) == 4


def test_what_is_no_photograph_is_named_and_skipped(tmp_path: Path) -> None:
    whole = picture(tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.jpg").write_text("no picture")
    picture(tmp_path / "icon.png", size=(SIDE_MIN - 1, 200))
    chosen = collection(tmp_path, 16)
    assert [photo.name for photo in chosen.photos] == ["01 good.png"]
    assert chosen.skipped == ["half.png", "icon.png", "words.jpg"]
    assert not chosen.distinct


def test_a_name_of_any_kind_makes_an_upload_id_that_is_read(tmp_path: Path) -> None:
    picture(tmp_path / ("x" * 200 + "\x01%\udcff.png"))
    (photo,) = collection(tmp_path, 16).photos
    assert len(photo.name) < NAME_CHARS_MAX + 8
    assert photo.name.isprintable()
    photo.name.encode()


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_nothing_to_show_says_what_to_do(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "place")
    with pytest.raises(SettingError, match="name"):
        collection(tmp_path / "place", 16)


def test_without_scikit_image_the_message_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingError, match=r"dejaview\[demo\].*FOLDER"):
        collection(None, 16)


def test_the_wheel_is_read_by_path_and_every_photograph_has_its_note() -> None:
    """No module of scikit-image is imported: its functions may download."""
    pytest.importorskip("skimage")
    code = (
        "import sys; from ops.demo.photos import collection; found = collection(None, 64);"
        "assert not any(name.startswith('skimage') for name in sys.modules), 'imported';"
        "assert all(photo.path.is_file() and photo.source and photo.licence for photo in found.photos);"
        "print(len(found.photos), [photo.name for photo in found.second_views])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "15 ['motorcycle_right.png']\n"), done.stderr


def test_a_second_view_comes_only_with_its_first() -> None:
    pytest.importorskip("skimage")
    assert collection(None, 3).second_views == []


def test_originals_and_identical_copies_are_the_very_bytes(tmp_path: Path) -> None:
    file = picture(tmp_path / "in" / "50% #1?.png")
    uploads = uploads_of(tmp_path / "in", tmp_path / "out")
    assert [one.kind for one in uploads] == [Kind.ORIGINAL, Kind.EDITED, Kind.EDITED, Kind.IDENTICAL, Kind.REPEAT]
    original, cropped, _, identical, again = uploads
    assert original.file.read_bytes() == identical.file.read_bytes() == file.read_bytes()
    assert original.sha256 == identical.sha256 == again.sha256 != cropped.sha256
    assert again.upload_id == original.upload_id
    assert len({one.upload_id for one in uploads}) == 4


def test_references_can_name_every_file(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "50% #1?.png")
    uploads = uploads_of(tmp_path / "in", tmp_path / "out")
    assert all(one.file.is_file() and one.file.parent == tmp_path / "out" for one in uploads)
    assert not any(character in one.file.name for one in uploads for character in "%#? ")


def test_edits_repeat_with_the_seed_and_differ_between_photographs(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)
    first, second = (uploads_of(tmp_path / "in", tmp_path / f"out{run}") for run in (1, 2))
    assert [one.sha256 for one in first] == [one.sha256 for one in second]
    noisy = [one.sha256 for one in first if one.edit == "noise"]
    assert len(set(noisy)) == 2


def test_thumbnails_are_small(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "large.jpg", size=(2000, 1500))
    uploads = uploads_of(tmp_path / "in", tmp_path / "out")
    assert all(len(one.thumbnail) < 10_000 for one in uploads)
    assert THUMBNAIL_SIDE <= 200


def test_every_edit_of_the_demo_is_known_and_has_words() -> None:
    assert set(DEMO_EDITS) <= set(EDITS)
    assert all(in_words(edit) != edit for edit in DEMO_EDITS)
