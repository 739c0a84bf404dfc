"""The benchmark's arithmetic: ratios, drawn pictures and vectors, exact neighbours, CPU time of whole trees."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ops.bench.cost import Meter, cpu_s
from ops.bench.page import html
from ops.bench.photos import PHONE_SIZE, as_by_a_phone, photos_of
from ops.bench.result import Figure, Line, Part, Plot, Report, readable
from ops.bench.vectors import Ground, like
from ops.cli.main import main
from schemas.events import Vector
from stream.errors import SettingError


def unit(vectors: Vector) -> Vector:
    made: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.12345, "0.123"), (9.876, "9.88"), (123.4, "123"), (12345.6, "12,346")]
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert readable(value) == text


def test_a_report_keeps_ratios_and_shows_what_stands_beside() -> None:
    part = Part(
        "p", "A part <b>", "A note",
        [Figure("speed", 50.0, "images/s", "bare loop", 200.0), Figure("alone", 1.0, "ms")],
        [Plot("Curve", "x", "y", [Line("here", [1.0, 2.0], [3.0, 4.0])], logarithmic=True)],
    )  # fmt: skip
    report = Report("dejaview bench", [part])
    told = json.loads(report.to_json())["parts"][0]["figures"]
    assert [figure["ratio"] for figure in told] == [0.25, None]
    assert part.table.rows[0] == ("speed", "50 images/s", "200 images/s", "0.25", "bare loop")
    page = html(report)
    assert "A part &lt;b&gt;" in page
    assert page.count("<svg") == 1


def test_drawn_pictures_are_the_same_every_time_and_differ_from_each_other() -> None:
    first, again = photos_of([], 3), photos_of([], 3)
    assert first == again
    assert len(set(first)) == 3
    assert Image.open(io.BytesIO(as_by_a_phone(first, 1)[0])).size == PHONE_SIZE


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no photos"):
        photos_of([tmp_path], 3)


def test_drawn_vectors_are_of_unit_length_and_lie_like_the_known_ones() -> None:
    """Break: leave out the mean."""
    random = np.random.default_rng(0)
    known = unit(random.standard_normal((400, 256)).astype(np.float32) * 0.05 + np.eye(256, dtype=np.float32)[0])
    drawn = like(known, 300, seed=1)
    assert drawn.shape == (300, 256)
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    assert abs(float((drawn @ known.mean(axis=0)).mean() - (known @ known.mean(axis=0)).mean())) < 0.05
    assert (like(known, 300, seed=1) == drawn).all()


def test_exact_neighbours_stay_within_a_tenant() -> None:
    random = np.random.default_rng(0)
    rows = unit(random.standard_normal((40, 256)).astype(np.float32))
    own = np.array([5, 6, 7, 12], dtype=np.int64)
    assert Ground(rows, rows[own], own).exact(4).tolist() == [5, 6, 7, 12]
    # Row 4 looks the same, and is another tenant's.
    rows[4] = rows[5]
    assert Ground(rows, rows[own], own).exact(4).tolist() == [5, 6, 7, 12]


def test_a_tree_of_processes_costs_what_its_leaves_cost() -> None:
    """Children that live and children that have ended both count."""
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    run = f"subprocess.run([sys.executable, '-c', {burn!r}])"
    parent = f"import subprocess, sys, time; {run}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_s([process.pid]) > 0.25
        process.kill()
    assert cpu_s([process.pid]) == 0
    wall_s, cpu = Meter({"here": [os.getpid()]}).read()
    assert wall_s < 1
    assert 0 <= cpu["here"] < 1


@pytest.mark.parametrize("arguments", [["--rows", "many"], ["--uploads", "0"], ["sleep"]])
def test_a_wrong_option_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert arguments[-1] in capsys.readouterr().err
