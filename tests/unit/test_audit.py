"""`make audit` fails on a version below a floor, and on a list it cannot read.

Breaks, each tried: `found_version < lowest` the other way round; an unreadable line skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def audit(tmp_path: Path, floors: str, constraints: str = "") -> tuple[int, str]:
    listed, pinned = tmp_path / "floors.txt", tmp_path / "constraints.txt"
    listed.write_text(floors)
    pinned.write_text(constraints)
    command = [sys.executable, str(ROOT / ".ci" / "floors.py"), str(listed), str(pinned)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


def test_what_is_installed_and_pinned_passes() -> None:
    """The list as it is holds for this environment and for constraints.txt."""
    command = [sys.executable, str(ROOT / ".ci" / "floors.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "0 too old" in ended.stdout


def test_an_old_version_fails_with_its_reason(tmp_path: Path) -> None:
    """Installed below the floor: exit 1, and the line says what, how old, and why it matters."""
    code, said = audit(tmp_path, "# a comment\n\npillow 999.1 CVE-0: made up\nidna 1.0 CVE-0: fine\n")
    assert code == 1
    assert "is installed, below 999.1: CVE-0: made up" in said
    assert "idna" not in said


def test_an_old_pin_fails_though_it_is_not_installed(tmp_path: Path) -> None:
    """What others would install counts, however the name is spelt."""
    code, said = audit(tmp_path, "not-installed-here 2.0 CVE-0: made up\n", "Not_Installed.Here==1.9\n")
    assert code == 1
    assert "1.9 is pinned" in said


@pytest.mark.parametrize("line", ["pillow", "pillow 1.0", "pillow old CVE-0: made up"])
def test_a_line_that_cannot_be_read_fails(tmp_path: Path, line: str) -> None:
    """A slip in the list is no pass."""
    assert audit(tmp_path, f"idna 1.0 CVE-0: fine\n{line}\n")[0] == 2


def test_a_list_that_meets_nothing_fails(tmp_path: Path) -> None:
    """Nothing compared is no pass either."""
    assert audit(tmp_path, "no-such-package 1.0 CVE-0: made up\n")[0] == 2


def test_no_alarm_for_what_is_not_installed(tmp_path: Path) -> None:
    """A package that is neither installed nor pinned is left out."""
    assert audit(tmp_path, "no-such-package 1.0 CVE-0: x\nidna 1.0 CVE-0: x\n")[0] == 0
