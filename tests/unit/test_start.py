"""R9: as process 1 of a container, dejaview ends at a SIGTERM also before `run` has handlers of its own.

Break, tried: `main` without its `signal.signal`: it is still there after the wait.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.cli import start
from tests.support.missing import is_missing

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0
# Process 1 of a name space of its own, which ends with it.
AS_FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@pytest.fixture
def waiting_run(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`unshare`, and below it `dejaview run`, which waits for its settings: a pipe that nobody writes to."""
    if shutil.which(AS_FIRST[0]) is None or subprocess.run([*AS_FIRST, "true"], check=False).returncode != 0:
        is_missing("no process can be number 1 here: name spaces of processes are not allowed")
    settings = tmp_path / "dejaview.yaml"
    os.mkfifo(settings)
    command = [*AS_FIRST, sys.executable, "-m", "ops.cli.start", "run", "--config", str(settings)]
    with _started(command) as process, settings.open("w"):  # opens once the program has
        yield process


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT_S)


def test_a_first_process_ends_before_it_has_begun(waiting_run: subprocess.Popen[bytes]) -> None:
    """Nothing is in hand then: it just goes, with the status of a process that SIGTERM has ended."""
    children = Path(f"/proc/{waiting_run.pid}/task/{waiting_run.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGTERM)
    assert waiting_run.wait(WAIT_S) == start.EXIT_TERMINATED


def test_any_other_process_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command on a terminal keeps what its parent has set."""
    monkeypatch.setattr(sys, "argv", ["dejaview", "config", "--markdown"])
    before = signal.getsignal(signal.SIGTERM)
    assert start.main() == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "`health.port`" in capsys.readouterr().out
