"""`dejaview eval --dataset`: the published protocols, on small made-up trees of the same layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from models.edits import EDITS
from models.evaluation.datasets import Dataset, Search, read_dataset
from models.evaluation.metrics import average_precision, first_four
from models.evaluation.published import _measured
from ops.cli.main import main
from stream.errors import SettingError
from tests.support.photos import NAMES, photo

SIDE = 200


def save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=90)


def edited(name: str, edit: str) -> Image.Image:
    return EDITS[edit](photo(name, SIDE), Random(0))


@pytest.fixture
def copydays(tmp_path: Path) -> Path:
    """Four originals, two attacks of strength, and strong ones, of which one original has two."""
    tmp_path = tmp_path / "copydays"
    for n, name in enumerate(NAMES[:4]):
        save(photo(name, SIDE), tmp_path / "original" / f"2{n:03}00.jpg")
        save(edited(name, "crop_70"), tmp_path / "crops" / "30" / f"2{n:03}00.jpg")
        save(edited(name, "jpeg_10"), tmp_path / "jpegqual" / "10" / f"2{n:03}00.jpg")
    save(edited(NAMES[0], "text"), tmp_path / "strong" / "200001.jpg")
    save(edited(NAMES[0], "rotate_15"), tmp_path / "strong" / "200002.jpg")
    save(edited(NAMES[2], "film"), tmp_path / "strong" / "200201.jpg")
    return tmp_path


@pytest.fixture
def holidays(tmp_path: Path) -> Path:
    """Three scenes, of three, two and two pictures, in the folder `jpg` of the archives."""
    edits = ("mirror", "crop_90", "brightness")
    for n, (name, count) in enumerate(zip(NAMES, (3, 2, 2), strict=False)):
        for k in range(count):
            save(edited(name, edits[k]), tmp_path / "jpg" / f"1{n:03}{k:02}.jpg")
    return tmp_path


@pytest.fixture
def ukbench(tmp_path: Path) -> Path:
    """Two objects, four pictures of each; thumbnails beside them, as in the archive."""
    for n in range(8):
        picture = edited(NAMES[n // 4], ("mirror", "crop_90", "brightness", "jpeg_50")[n % 4])
        save(picture, tmp_path / "full" / f"ukbench{n:05}.jpg")
        save(picture, tmp_path / "thumbnails" / f"ukbench{n:05}.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("places", "positives", "expected"),
    [
        ([0], 1, 1.0),
        ([1], 1, (0 + 1 / 2) / 2),
        ([0, 1], 2, 1.0),
        ([0, 3], 2, (1 + 1) / 4 + (1 / 3 + 2 / 4) / 4),
        ([], 2, 0.0),
    ],
)
def test_average_precision(places: list[int], positives: int, expected: float) -> None:
    """Trapezoids, by hand. Break: rectangles, as in micro-AP."""
    assert average_precision(places, positives) == pytest.approx(expected)


def test_first_four() -> None:
    """Break: the first three."""
    assert first_four([0, 1, 3, 4], 4) == 3


def dataset(finds_itself: bool) -> Dataset:
    search = Search("all", [0, 1], [frozenset({1, 2}) - {0}, frozenset({0, 2})])
    return Dataset("made up", "none", [Path("a.jpg")] * 4, 4, [search], average_precision, finds_itself)


def test_a_query_is_left_out_of_its_own_ranking() -> None:
    """Query 0 meets itself first, then 1, 3, 2. Break: leave it in, or take out the place instead of the row."""
    scores = np.array([[1.0, 0.9, 0.1, 0.5], [0.9, 1.0, 0.8, 0.1]])
    without = list(_measured(dataset(finds_itself=False), dataset(False).searches[0], [scores]))
    assert without == pytest.approx([average_precision([0, 2], 2), average_precision([0, 1], 2)])
    itself = list(_measured(dataset(finds_itself=True), dataset(True).searches[0], [scores]))
    assert itself == pytest.approx([average_precision([1, 3], 2), average_precision([1, 2], 2)])


def test_ties_gain_nothing() -> None:
    """All scores equal: what is right comes last. Break: a stable sort by score alone."""
    scores = np.zeros((2, 4), dtype=np.float32)
    found = list(_measured(dataset(True), dataset(True).searches[0], [scores[:1], scores[1:]]))
    assert found == pytest.approx([average_precision([2, 3], 2)] * 2)


def test_copydays_is_read(copydays: Path) -> None:
    """Attacks in order of strength, each picture with its own original. Break: match whole names."""
    found = read_dataset("copydays", copydays)
    assert [search.name for search in found.searches] == ["crops/30", "jpegqual/10", "strong"]
    assert found.rows == 4
    strong = found.searches[2]
    assert [found.files[place].stem for place in strong.queries] == ["200001", "200002", "200201"]
    assert [[found.files[row].stem for row in rows] for rows in strong.right] == [["200000"], ["200000"], ["200200"]]


def test_attacks_are_sorted_by_number(copydays: Path) -> None:
    """Break: sort the names: 10 before 5."""
    shutil.copytree(copydays / "jpegqual" / "10", copydays / "jpegqual" / "5")
    names = [search.name for search in read_dataset("copydays", copydays).searches]
    assert names == ["crops/30", "jpegqual/5", "jpegqual/10", "strong"]


def test_flat_archives_are_read_too(copydays: Path) -> None:
    """Originals and strong attacks unpacked without folders. Break: look for `original` alone."""
    expected = read_dataset("copydays", copydays)
    for name in ("original", "strong"):
        for file in (copydays / name).iterdir():
            file.rename(copydays / file.name)
        (copydays / name).rmdir()
    found = read_dataset("copydays", copydays)
    assert [file.name for file in found.files] == [file.name for file in expected.files]
    assert found.searches == expected.searches


def test_the_same_name_twice_is_refused(holidays: Path) -> None:
    """Smaller copies beside the pictures would be everybody's best answers. Break: take both."""
    shutil.copytree(holidays / "jpg", holidays / "small")
    with pytest.raises(SettingError, match=r"100000\.jpg and .*100000\.jpg have the same name"):
        read_dataset("holidays", holidays)


def test_a_picture_that_cannot_be_read_is_named(holidays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Break: let Pillow's error, which knows no name, pass."""
    (holidays / "jpg" / "100101.jpg").write_bytes(b"no picture")
    assert main(["eval", "--dataset", "holidays", str(holidays), "--baselines"]) == 2
    assert "100101.jpg cannot be read" in capsys.readouterr().err


def test_holidays_is_read(holidays: Path) -> None:
    found = read_dataset("holidays", holidays)
    (search,) = found.searches
    assert [found.files[place].stem for place in search.queries] == ["100000", "100100", "100200"]
    assert [len(rows) for rows in search.right] == [2, 1, 1]
    assert all(query not in rows for query, rows in zip(search.queries, search.right, strict=True))


def test_ukbench_is_read(ukbench: Path) -> None:
    """Break: read the thumbnails too."""
    found = read_dataset("ukbench", ukbench)
    assert found.rows == 8
    assert found.searches[0].right[5] == {4, 5, 6, 7}


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("copydays", lambda folder: shutil.rmtree(folder / "original"), "Copydays has originals"),
        ("copydays", lambda folder: (folder / "original" / "200200.jpg").unlink(), "has no original"),
        ("holidays", lambda folder: (folder / "jpg" / "100101.jpg").unlink(), "for every query others"),
        ("holidays", lambda folder: shutil.rmtree(folder / "jpg"), "100000.jpg"),
        ("ukbench", lambda folder: (folder / "full" / "ukbench00006.jpg").unlink(), "around ukbench00004"),
        ("ukbench", lambda folder: shutil.rmtree(folder / "full"), ""),
    ],
)
def test_what_is_no_data_set(name: str, damage: object, said: str, request: pytest.FixtureRequest) -> None:
    """An error names what is lacking; thumbnails alone are read. Break: skip what does not fit."""
    folder = request.getfixturevalue(name)
    assert callable(damage)
    damage(folder)
    if not said:
        assert read_dataset(name, folder).rows == 8
        return
    with pytest.raises(SettingError, match=said):
        read_dataset(name, folder)


@pytest.mark.parametrize(("name", "best"), [("copydays", 1.0), ("holidays", 1.0), ("ukbench", 4.0)])
def test_the_command(
    name: str, best: float, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """dejaview finds every copy of so few; the JSON holds what the table shows. Break: rank by PDQ for all methods."""
    folder = request.getfixturevalue(name)
    out, text = folder / "out.json", folder / "out.md"
    arguments = ["--baselines", "PDQ", "--json", str(out), "--markdown", str(text)]
    assert main(["eval", "--dataset", name, str(folder), *arguments]) == 0
    of = json.loads(out.read_text())
    for search, figures in of["figures"].items():
        assert figures["dejaview"][0] == best, search
        assert set(figures) == {"dejaview", "PDQ"}
        assert f"| {search} |" in text.read_text()
    assert min(figures["PDQ"][0] for figures in of["figures"].values()) < best
    assert of["dataset"] in capsys.readouterr().out


def test_distractors_are_rows(copydays: Path, tmp_path: Path) -> None:
    """The originals' pixels in other files: what is asked for has a rival of the same score. The originals' own files
    are no further rows.

    Breaks: forget the distractors; keep those that are rows already.
    """
    rivals = tmp_path / "rivals"
    rivals.mkdir()
    for file in (copydays / "original").iterdir():
        shutil.copy(file, rivals)
        Image.open(file).save(rivals / f"{file.stem}.png")
    out = tmp_path / "out.json"
    options = ["--baselines", "--distractors", str(rivals), "--json", str(out)]
    shutil.rmtree(copydays / "strong")
    assert main(["eval", str(copydays), "--dataset", "copydays", *options]) == 0
    of = json.loads(out.read_text())
    assert of["distractors"] == 4
    assert all(figures["dejaview"][0] == average_precision([1], 1) for figures in of["figures"].values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["/nowhere"], "give one folder"),
        ([".", "--html", "x.html"], "--html goes with photos"),
        ([".", "--split", "tune"], "--split goes with photos"),
        ([".", "--photos-max", "20"], "--photos-max goes with photos"),
        (["."], "UKBench has"),
    ],
)
def test_what_does_not_go_together(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break: ignore the option."""
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *options, "--dataset", "ukbench", "--baselines"]) == 2
    assert said in capsys.readouterr().err
