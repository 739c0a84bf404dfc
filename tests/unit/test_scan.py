"""`dejaview scan`: a folder's copies, with the decision that uploads get, without a server."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import ExifTags, Image

from models.edits import EDITS
from ops.cli.main import main
from ops.scan import page
from tests.support.photos import photo

SCENES = ("coffee.png", "chelsea.png", "rocket.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes; of one a smaller copy, of one a larger that sorts last; twins; a file that is no picture."""
    made = tmp_path_factory.mktemp("album")
    (made / "deep").mkdir()
    for name in SCENES:
        photo(name).save(made / f"{name[:-4]}.jpg", quality=90)
    EDITS["grey"](photo("coffee.png"), Random(1)).resize((200, 133)).save(made / "deep" / "grey.png")
    photo("chelsea.png").resize((800, 532)).save(made / "z-large.jpg", quality=90)
    (made / "deep" / "twin.jpg").write_bytes((made / "coffee.jpg").read_bytes())
    (made / "broken.jpg").write_bytes(b"no picture")
    return made


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all four outputs were written to."""
    out = tmp_path_factory.mktemp("out")
    files = [
        f"--{name}={out / file}" for name, file in (("json", "s.json"), ("html", "s.html"), ("embeddings", "s.npz"))
    ]
    assert main(["scan", str(folder), *files]) == 0
    return out


def test_a_page_shows_pictures_upright(tmp_path: Path) -> None:
    """A photograph that lies on its side, with a note that says so. Break: `to_rgb`, which does not turn."""
    image, exif = Image.new("RGB", (400, 200), "red"), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "side.jpg", exif=exif)
    url = page._thumbnail(tmp_path / "side.jpg")
    shown = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
    assert shown.size == (80, 160)


def test_groups_name_the_best_picture_first(found: Path) -> None:
    """Most pixels is best, whatever the name; equal bytes are exact evidence; what is no picture is told.

    Break: judge in the order of the names.
    """
    told = json.loads((found / "s.json").read_text())
    groups = {group["best"]["name"]: group["members"] for group in told["groups"]}
    assert set(groups) == {"coffee.jpg", "z-large.jpg"}
    assert {member["name"] for member in groups["coffee.jpg"]} == {"deep/grey.png", "deep/twin.jpg"}
    assert [member["name"] for member in groups["z-large.jpg"]] == ["chelsea.jpg"]
    twin = next(member for member in groups["coffee.jpg"] if member["name"] == "deep/twin.jpg")
    assert twin["evidence"] == ["exact", "perceptual", "embedding"]
    assert twin["confidence"] == 1
    assert told["unique"] == ["rocket.jpg"]
    assert [(one["name"], one["reason"]) for one in told["failures"]] == [("broken.jpg", "unsupported_format")]


def test_embeddings_are_named_unit_vectors(found: Path) -> None:
    """For data scientists: names, vectors, model id, without pickle. Break: save objects."""
    with np.load(found / "s.npz", allow_pickle=False) as file:
        names, vectors, model_id = file["names"].tolist(), file["vectors"], str(file["model_id"])
    assert vectors.shape == (len(names), 256) == (6, 256)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    assert vectors[names.index("coffee.jpg")] @ vectors[names.index("deep/twin.jpg")] == pytest.approx(1, abs=1e-5)
    assert model_id == json.loads((found / "s.json").read_text())["model_id"]


def test_the_page_shows_every_picture_of_a_group(found: Path) -> None:
    """Self-contained, names escaped. Break: link the files."""
    page = (found / "s.html").read_text()
    assert page.count("<img") == 5
    assert "deep/grey.png" in page
    assert "src='data:" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_terminal_says_it_in_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Group, members indented, a summary. Break: print the JSON too."""
    assert main(["scan", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "6 pictures: 2 groups with 3 copies, 1 without copies, 1 not judged"
    assert any(line.startswith("  duplicate  deep/grey.png  200x133  score ") for line in lines)


def test_json_on_the_terminal_is_json_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json -` can be piped. Break: print the groups as well."""
    assert main(["scan", str(folder), "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["groups"]) == 2


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "/nowhere"]) == 1
    assert "/nowhere: there is no such file or folder" in capsys.readouterr().err


def test_a_collage_joins_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is larger than the pictures in it, and judged before them. Break: drop the second look at what has panels."""
    canvas = Image.new("RGB", (1_200, 400), "white")
    canvas.paste(photo("chelsea.png").resize((598, 400)), (0, 0))
    canvas.paste(photo("rocket.jpg").resize((598, 400)), (602, 0))
    canvas.save(tmp_path / "collage.jpg", quality=90)
    photo("chelsea.png").save(tmp_path / "cat.jpg", quality=90)
    photo("coffee.png").save(tmp_path / "cup.jpg", quality=90)
    assert main(["scan", str(tmp_path), f"--json={tmp_path / 'found.json'}", f"--html={tmp_path / 'page.html'}"]) == 0
    told = json.loads((tmp_path / "found.json").read_text())
    (group,) = told["groups"]
    (member,) = group["members"]
    assert (group["best"]["name"], member["name"], member["match"]) == ("cat.jpg", "collage.jpg", "cat.jpg")
    assert member["panel"] == pytest.approx({"left": 0, "top": 0, "right": 0.5, "bottom": 1}, abs=0.02)
    assert "its part from 0% 0% to 50% 100%" in capsys.readouterr().out
    assert "its part from" in (tmp_path / "page.html").read_text()
