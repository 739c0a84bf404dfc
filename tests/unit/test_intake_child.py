"""R6: a decoder process knows no secret, writes nothing, and ends with its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.config import IntakeSettings
from stream.intake.child import DecoderProcess, TimedOutError
from stream.intake.sandbox import limits_of
from tests.unit.intake_children import HOME, OWN, MakePool, child, failed, gone, photo, pools


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    with pools() as make:
        yield make


def test_own_alarm() -> None:
    """A hung child ends even if its parent no longer looks. Break: drop `setitimer`."""
    hang = "def decode_picture(data, limits): signal.pause()"
    settings = IntakeSettings(decode_cpu_s=0.2, decode_wall_s=0.2)
    process = DecoderProcess(child(OWN.format(hang)), limits_of(settings))
    process.wait_ready()
    with pytest.raises(TimedOutError):
        process.decode(photo())
    assert gone(process.pid)
    process.discard()


def test_children_know_no_secret(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child has neither the parent's environment nor its open files.
    Break: pass `os.environ`, or `close_fds=False`.
    """
    monkeypatch.setenv("DEJAVIEW_INTAKE__S3_SECRET_ACCESS_KEY", "hunter2")
    look = """def decode_picture(data, limits):
    files = [os.readlink(f"/proc/self/fd/{n}") for n in range(99) if os.path.lexists(f"/proc/self/fd/{n}")]
    raise decode.UndecodableError("bad_image", " ".join([*os.environ, *os.environ.values(), *files]))"""
    with (tmp_path / "private.pem").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        detail = failed(make_pool(child(OWN.format(look)))).detail
    assert "PYTHONPATH" in detail
    for secret in ("hunter2", "S3_SECRET", "private.pem"):
        assert secret not in detail


def test_printing_does_no_harm(make_pool: MakePool) -> None:
    """What a library prints never meets the protocol, however much. Break: leave descriptor 1 as it is."""
    chatter = """def decode_picture(data, limits):
    for place in (1, 2):
        try: os.write(place, b"warning " * 100_000)
        except BlockingIOError: pass
    return decode.decode(data, limits)"""
    pool = make_pool(child(OWN.format(chatter)))
    for _ in range(3):
        assert pool.decode(photo()).width == 300
    assert pool.restarts == 0


def test_no_writing(make_pool: MakePool, tmp_path: Path) -> None:
    """A child cannot write a file. Break: drop RLIMIT_FSIZE."""
    write = """def decode_picture(data, limits):
    try: os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b"x")
    except OSError as error: raise decode.UndecodableError("bad_image", type(error).__name__)"""
    pool = make_pool(child(OWN.format(write), str(tmp_path / "file")))
    assert failed(pool).detail == "OSError"


def test_children_die_with_their_parent() -> None:
    """A worker killed with SIGKILL leaves no decoder behind. Break: ignore the end of standard input."""
    program = (
        "import os, sys; from stream.config import IntakeSettings; from stream.intake.sandbox import DecoderPool\n"
        "pool = DecoderPool(IntakeSettings(decoders=1)); pool.decode(sys.stdin.buffer.read())\n"
        "print(*pool.pids, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, input=photo(), stdout=subprocess.PIPE, check=False
    )
    assert result.returncode == -signal.SIGKILL
    assert gone(int(result.stdout))


def test_late_but_there() -> None:
    """A reply that is there when a stopped parent wakes up counts, however late. Break: look at the clock first."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    DecoderProcess._wait(reader, select.POLLIN, deadline=time.monotonic() - 100)
    os.read(reader, 1)
    with pytest.raises(TimedOutError):
        DecoderProcess._wait(reader, select.POLLIN, deadline=time.monotonic() - 100)
    os.close(reader)
    os.close(writer)


def test_child_imports_little() -> None:
    """A decoder process starts without pydantic and the rest of dejaview.
    Break: import `schemas.events` in `decode.py`.
    """
    program = "import stream.intake.decoder_child, sys; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    result = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True)
    assert not {b"pydantic", b"schemas.events", b"torch", b"openvino"} & set(result.stdout.split())


def test_memory_serves_the_next_picture(make_pool: MakePool) -> None:
    """A warm child asks the kernel for no pages: 10 a picture at most, some 370 without. Break: drop the MALLOC_."""
    pool, pictures = make_pool(), 30
    large = photo(size=(640, 480))
    for _ in range(pictures):
        pool.decode(large)
    before = faults(*pool.pids)
    for _ in range(pictures):
        pool.decode(large)
    assert faults(*pool.pids) - before < 10 * pictures


def faults(pid: int) -> int:
    """Minor page faults of a process: field 10 of proc(5)'s stat, the name's end counted from."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
