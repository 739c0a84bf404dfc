"""R9: as process 1 of a container, dejaview ends at a SIGTERM also before `run` has handlers of its own.

Breaks, each tried: `main` without `_end_at_sigterm`; that without its thread (the second test).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
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


@contextmanager
def first_process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`unshare`, and below it `dejaview ARGUMENTS`."""
    if shutil.which(AS_FIRST[0]) is None or subprocess.run([*AS_FIRST, "true"], check=False).returncode != 0:
        is_missing("no process can be number 1 here: name spaces of processes are not allowed")
    command = [*AS_FIRST, sys.executable, "-m", "ops.cli.start", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT_S)


def terminate(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTERM to what `unshare` runs; the exit status."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    return process.wait(WAIT_S)


def test_it_ends_before_it_has_begun(tmp_path: Path) -> None:
    """Nothing is in hand then. Its settings are a pipe that nobody writes to, which opens once the program reads."""
    settings = tmp_path / "dejaview.yaml"
    os.mkfifo(settings)
    with first_process("run", "--config", str(settings)) as process, settings.open("w"):
        assert terminate(process) == start.EXIT_TERMINATED


def test_it_ends_while_it_asks_kafka() -> None:
    """Also in a call that lets no handler run: its broker takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.settimeout(200)
        servers = f"127.0.0.1:{broker.getsockname()[1]}"
        patient = ("--kafka.request_timeout_s", "300")
        with first_process("run", "--kafka.bootstrap_servers", servers, *patient) as process:
            connection, _ = broker.accept()
            with connection:
                assert terminate(process) == start.EXIT_TERMINATED


def test_another_process_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command on a terminal keeps what its parent has set."""
    monkeypatch.setattr(sys, "argv", ["dejaview", "config", "--markdown"])
    before = signal.getsignal(signal.SIGTERM)
    assert start.main() == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "`health.port`" in capsys.readouterr().out
