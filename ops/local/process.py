"""A server process in its own process group, known by pid and start time.

A pid alone is not an identity: after a crash or a reboot it may belong to somebody else. Every
signal is preceded by a comparison of the start time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.05
_KILL_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """`started` is the system's own words for the start time; only equality means anything."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Running or suspended; a zombie is not alive."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return _start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process group; False if the process is gone or is not ours."""
        if not self.alive:
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def end(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended after `timeout_s`."""
        if self.signal(signal.SIGTERM):
            # A suspended process sees SIGTERM only once it goes on.
            self.signal(signal.SIGCONT)
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(_KILL_WAIT_S)

    def wait(self, timeout_s: float) -> bool:
        """Whether the process ended within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def spawn(command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]) -> Process:
    """Start a server that outlives this program; its output is appended to `log`.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 - our own command, no shell
            list(command),
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Process waits for the child itself; without this Popen warns that nobody does.
    child.returncode = 0
    return Process(child.pid, _start_time(child.pid) or "")


def _start_time(pid: int) -> str | None:
    """When the process with this pid started, None if there is none (or only a zombie)."""
    if platform.system() == "Linux":
        return _start_time_linux(pid)
    # macOS has no /proc; `lstart` is exact to the second.
    answer = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    if len(answer) < 2 or answer[0].startswith("Z"):  # noqa: PLR2004 - state and time
        return None
    return answer[1].strip()


def _start_time_linux(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces: fields are counted after its end. State is the
    # third field of proc(5), start time (clock ticks since boot) the 22nd.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX" and not _has_threads(pid):
        return None
    return f"{boot} {fields[19]}"


def _has_threads(pid: int) -> bool:
    """Whether threads of a killed process are still ending: the first may be a zombie while the last holds ports."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
