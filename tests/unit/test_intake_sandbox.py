"""R6: hostile bytes can neither hang nor kill a worker, and cost one dead letter at most."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.events import Reason
from stream.config import IntakeSettings
from stream.errors import SandboxUnavailable
from stream.intake.decode import decode
from stream.intake.sandbox import limits_of
from tests.unit.intake_children import HOLD, OWN, RAW, MakePool, child, failed, gone, photo, pools


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    with pools() as make:
        yield make


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "queue"
    os.mkfifo(path)
    return path


def test_same_as_in_process(make_pool: MakePool) -> None:
    """Four threads over two processes get what decoding in-process gives, each its own picture. Break: drop `_idle`
    and use the first slot always.
    """
    pool = make_pool(decoders=2)
    pictures = [photo(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(pool.decode, pictures))
    for data, result in zip(pictures, results, strict=True):
        expected = decode(data, limits_of(IntakeSettings()))
        assert np.array_equal(result.pixels, expected.pixels)
        assert (result.pdq, result.pdq_quality, result.format) == (expected.pdq, expected.pdq_quality, "JPEG")
    assert pool.restarts == 0


def test_item_errors_leave_the_process_alone(make_pool: MakePool) -> None:
    """Refused bytes cost a dead letter, not a process. Break: replace the process after `UndecodableError`."""
    pool = make_pool(bytes_max=100_000)
    before = pool.pids
    for data, expected in (
        (b"", Reason.BAD_IMAGE),
        (b"<html>", Reason.UNSUPPORTED_FORMAT),
        (photo()[:500], Reason.BAD_IMAGE),
        (bytes(100_001), Reason.TOO_LARGE),
    ):
        assert failed(pool, data).reason is expected
    assert pool.decode(photo()).width == 300
    assert (pool.pids, pool.restarts) == (before, 0)


def test_killed_in_flight_is_tried_again(make_pool: MakePool, fifo: Path) -> None:
    """A process killed while it decodes (the kernel's memory killer, a segmentation fault) costs the picture nothing
    when the second one manages. Break: raise `DECODER_CRASHED` at the first crash.
    """
    pool = make_pool(child(OWN.format(HOLD), str(fifo)))
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.decode, photo())
        pid = int(fifo.read_bytes())
        assert not waiting.done()
        assert pid in pool.pids
        fifo.unlink()
        os.kill(pid, signal.SIGKILL)
        assert waiting.result(20).width == 300
    assert pool.restarts == 1
    assert gone(pid)


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "os._exit(3)", "raise RuntimeError", "os.close(4)"]
)
def test_crash_twice(make_pool: MakePool, end: str) -> None:
    """A picture that kills each decoder has one dead letter. Break: try for ever, or let `CrashedError` out."""
    pool = make_pool(child(OWN.format(f"def decode_picture(data, limits): {end}")))
    assert failed(pool).reason is Reason.DECODER_CRASHED
    assert pool.restarts == 2


@pytest.mark.parametrize("reply", ["b'x' * 100", "H(7, wire.REFUSED, 0)", "H(1, wire.READY, 0)"])
def test_garbage_counts_as_a_crash(make_pool: MakePool, reply: str) -> None:
    """A reply that no decoder gives is a crash (all kinds: `test_intake_wire.py`). Break: let `GarbledError` out."""
    pool = make_pool(child(RAW.format(reply)), decode_wall_s=5)
    assert failed(pool).reason is Reason.DECODER_CRASHED


def test_stopped_process(make_pool: MakePool) -> None:
    """A process that hangs is killed after the wall time, and the pool works on. Break: wait without a deadline."""
    pool = make_pool(decode_cpu_s=0.3, decode_wall_s=0.3)
    pool.decode(photo())
    (pid,) = pool.pids
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    assert failed(pool).reason is Reason.DECODE_TIMEOUT
    assert time.monotonic() - start < 5
    assert gone(pid)
    assert pool.restarts == 1
    assert pool.decode(photo()).width == 300


def test_cpu_burner(make_pool: MakePool) -> None:
    """A picture that burns CPU is stopped by the process's own limit, long before the wall time.
    Break: drop `_arm`.
    """
    burn = "def decode_picture(data, limits):\n    while True: pass"
    pool = make_pool(child(OWN.format(burn)), decode_cpu_s=0.1, decode_wall_s=60)
    error = failed(pool)
    assert error.reason is Reason.DECODE_TIMEOUT
    assert "CPU" in error.detail


def test_cpu_limit_is_per_picture(make_pool: MakePool) -> None:
    """Earlier pictures do not use up a later one's CPU time. Break: arm once, before the loop."""
    work = """def decode_picture(data, limits):
    end = time.process_time() + 0.4
    while time.process_time() < end: pass
    raise decode.UndecodableError("bad_image", "done")"""
    pool = make_pool(child(OWN.format(work)), decode_cpu_s=0.5)
    assert [failed(pool).detail for _ in range(3)] == ["done"] * 3
    assert pool.restarts == 0


def test_out_of_memory(make_pool: MakePool) -> None:
    """A picture beyond the address space has a dead letter that names the setting. Break: drop RLIMIT_AS."""
    file = io.BytesIO()
    Image.new("L", (8000, 5000)).save(file, "PNG", compress_level=1)
    error = failed(make_pool(decode_memory_bytes=200_000_000), file.getvalue())
    assert error.reason is Reason.DECODER_CRASHED
    assert "decode_memory_bytes" in error.detail


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/python",),
        child("raise SystemExit('no such module')"),
        child("print('hello, this is not the protocol')"),
    ],
)
def test_cannot_start(make_pool: MakePool, command: tuple[str, ...]) -> None:
    """A sandbox that does not start is nobody's picture's fault. Break: take `NotStartedError` for a crash."""
    pool = make_pool(command)
    for _ in range(2):
        with pytest.raises(SandboxUnavailable):
            pool.decode(photo())


def test_vanished_while_idle(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    """A process that died while idle is replaced before the next picture, which still has two tries.
    Break: drop the look at `alive`.
    """
    pool = make_pool()
    pool.decode(photo())
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert pool.decode(photo()).width == 300
    assert pool.restarts == 1
    assert caplog.records == []


def test_close_does_not_wait(make_pool: MakePool, fifo: Path) -> None:
    """Closing ends what is under way, and what waits, with an error that judges nothing.
    Break: `close` only idle ones.
    """
    pool = make_pool(child(OWN.format(HOLD), str(fifo)), decode_wall_s=60)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(pool.decode, photo()) for _ in range(2)]
        fifo.read_bytes()
        pids = pool.pids
        pool.close()
        for call in calls:
            with pytest.raises(SandboxUnavailable):
                call.result(20)
    assert all(gone(pid) for pid in pids)
    with pytest.raises(SandboxUnavailable):
        pool.decode(photo())


def test_no_threads_are_left(make_pool: MakePool) -> None:
    """The pool starts no thread of its own. Break: drain standard error in a thread."""
    before = threading.active_count()
    make_pool().decode(photo())
    assert threading.active_count() == before
