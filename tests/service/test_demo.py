"""`dejaview demo` judges every upload with no server at all, and leaves nothing behind: no file, no process.

Breaks that these tests catch, each tried: `_milvus_lite_logs_into` left out (log files stay); the edited copies of a
photograph sent under its own id (dead letters).
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 200


@pytest.fixture(autouse=True)
def _extra() -> None:
    for module in ("milvus_lite", "skimage"):
        if importlib.util.find_spec(module) is None:
            reason = f"{module} is not installed: pip install -e '.[demo]'"
            pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)


def start(place: Path, *flags: str) -> subprocess.Popen[str]:
    """The demo in its own program, with `place`/t for its temporary files."""
    (place / "t").mkdir()
    # Settings of the shell, of a deployment perhaps, must change nothing.
    strange = {"DEJAVIEW_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "DEJAVIEW_DELIVERY": "exactly_once"}
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli.main", "demo", "--out", str(place / "page.html"), *flags],
        cwd=ROOT,
        env={**os.environ, **strange, "TMPDIR": str(place / "t"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )


def assert_nothing_is_left(place: Path) -> None:
    assert list((place / "t").iterdir()) == []
    running = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(place) not in running


def test_every_upload_is_judged_and_nothing_is_left(tmp_path: Path) -> None:
    demo = start(tmp_path, "--photos", "2")
    output, errors = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, errors) == (0, "")
    assert "uploads      38 sent, 38 judged, 0 lost" in output
    assert "photographs  2: 2 new, 0 left to review, 0 taken for another" in output
    assert "repeats      2: 2 recognised" in output
    found = re.search(r"copies       34: (\d+) found, (?:(\d+) left to review, )?.* 0 taken for another", output)
    assert found is not None
    # A brick wall is one of the two: some of its copies are left to review or missed, by the order in which they are
    # judged (what was left to review is a photograph that later ones are compared with, too): in eight runs 29 found,
    # 2 to 5 left to review.
    assert int(found[1]) >= 28
    assert int(found[1]) + int(found[2] or 0) >= 30
    assert "dead letters" not in output
    assert "copies found</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert_nothing_is_left(tmp_path)


def test_ctrl_c_ends_it_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("Judging the copies"):
            break
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, errors) == (130, "")
    assert not (tmp_path / "page.html").exists()
    assert_nothing_is_left(tmp_path)
