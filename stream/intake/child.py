"""The parent's handle on one decoder process: start it, ask it, tell how it ended.

Not thread-safe but for `kill`: whoever holds the process uses it alone.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stream.intake import wire
from stream.intake.decode import Decoded
from stream.intake.decoder_child import OUT_OF_MEMORY
from stream.intake.limits import Limits

# -P: the working directory is no place to import from. -s: nor is the user's home.
COMMAND = (sys.executable, "-P", "-s", "-m", "stream.intake.decoder_child")

START_S = 30.0
# From a reply's first byte to its last. The picture is decoded by then, however late it is: a parent that was
# stopped for a while (SIGSTOP, a frozen container) must not blame the picture.
REPLY_S = 5.0
REAP_S = 5.0
CHUNK_BYTES = 1 << 18
STDERR_CHARS_MAX = 400
# Free memory that a process keeps for the next picture; glibc takes no larger threshold.
KEPT_BYTES_MAX = 32 << 20


class NotStartedError(Exception):
    """The process never said that it is ready."""


class TimedOutError(Exception):
    """The process used up its CPU or wall time."""


class CrashedError(Exception):
    """The process died, or answered what no decoder answers."""


class DecoderProcess:
    """One decoder process. `decode` may be called when it is `alive`; after an error it must be discarded."""

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        """Start the process and return at once; the first `decode` waits until it is ready.

        Raises:
            OSError: the system starts no such process.
        """
        self._limits = limits
        self._sequence = 0
        self._ready = False
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, limits.to_json()],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            close_fds=True,
            # A Ctrl-C at the terminal is the parent's to handle: what is in hand is finished first.
            start_new_session=True,
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._pipes = [pipe for pipe in pipes if pipe is not None]
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in self._pipes)
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        for descriptor in (self._stdin, self._stdout):
            _widen(descriptor)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until the process has imported what it needs and set its limits.

        Raises:
            NotStartedError: it ended, said something else, or took `START_S`.
        """
        if self._ready:
            return
        try:
            kind, _ = wire.read_reply_header(self._receive(wire.REPLY.size, time.monotonic() + START_S), sequence=0)
        except (TimedOutError, CrashedError, wire.GarbledError) as error:
            raise NotStartedError(f"a decoder process did not start ({error}): {self._last_words()}") from None
        if kind != wire.READY:
            raise NotStartedError("a decoder process began with something else than `ready`")
        self._ready = True

    def decode(self, data: bytes) -> Decoded:
        """Have one picture decoded.

        Raises:
            UndecodableError: the picture's fault; the process goes on.
            TimedOutError: CPU or wall time is used up.
            CrashedError: the process died or its reply is garbage.
        """
        self._drain_stderr()
        self._sequence += 1
        header = wire.request_header(self._sequence, len(data))
        for part in (header, data):
            self._send(part, time.monotonic() + self._limits.wall_s)
        try:
            kind, length = wire.read_reply_header(
                self._receive(wire.REPLY.size, time.monotonic() + self._limits.wall_s), self._sequence
            )
            body = self._receive(length, time.monotonic() + REPLY_S)
            if kind == wire.DECODED:
                return wire.read_decoded(body, self._limits)
            if kind == wire.REFUSED:
                raise wire.read_refused(body)
        except wire.GarbledError as error:
            raise CrashedError(f"a decoder process sent garbage ({error})") from None
        raise CrashedError("a decoder process sent `ready` twice")

    def kill(self) -> None:
        """End the process, from any thread; a `decode` under way fails with `CrashedError`."""
        self._process.kill()

    def discard(self) -> None:
        """End the process and let go of its pipes."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            # A process in an uninterruptible wait is reaped later, by subprocess itself.
            self._process.wait(REAP_S)
        for pipe in self._pipes:
            pipe.close()

    def _send(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(self._stdin, select.POLLOUT, deadline)
            try:
                left = left[os.write(self._stdin, left[:CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._end() from None

    def _receive(self, length: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < length:
            self._wait(self._stdout, select.POLLIN, deadline)
            try:
                chunk = os.read(self._stdout, min(CHUNK_BYTES, length - len(received)))
            except BlockingIOError:
                continue
            if not chunk:
                raise self._end()
            received += chunk
        return bytes(received)

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        """Wait for the pipe. What is there when we look counts, however late we look."""
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimedOutError("wall time")

    def _end(self) -> TimedOutError | CrashedError:
        """How the process ended, once a pipe of it is closed."""
        try:
            status = self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return CrashedError("a decoder process closed its pipe")
        if status == -signal.SIGXCPU:
            return TimedOutError("CPU time")
        if status == -signal.SIGALRM:
            return TimedOutError("wall time")
        if status == OUT_OF_MEMORY:
            return CrashedError("a decoder process needed more than intake.decode_memory_bytes")
        if status < 0:
            return CrashedError(f"a decoder process ended with {signal.Signals(-status).name}")
        return CrashedError(f"a decoder process ended with status {status}")

    def _drain_stderr(self) -> bytes:
        """What the process has written to standard error since the last look: 64 KiB (a pipe) at most."""
        with suppress(BlockingIOError):
            return os.read(self._stderr, 1 << 16)
        return b""

    def _last_words(self) -> str:
        return self._drain_stderr().decode(errors="replace").strip()[-STDERR_CHARS_MAX:]


def _widen(descriptor: int) -> None:
    """Let a pipe hold a small photo, and a reply, at once: else each side wakes the other for every 64 KiB.

    A user that may have no more pipe memory (`pipe-user-pages-soft` in pipe(7): 64 MiB) goes on with what it has; other
    kernels know no such call.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)


def _environment() -> dict[str, str]:
    """What a decoder process may know: where Python is, and that it has one thread. No secrets."""
    home = str(Path(__file__).resolve().parents[2])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(paths),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # glibc: memory of one picture serves the next. Else it goes back to the kernel, and every page of it comes as a
        # fault again: a fifth of what a small photo costs.
        "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES_MAX),
        "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES_MAX),
    }
