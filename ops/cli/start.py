"""Where the program `dejaview` begins: a signal handler first, then the imports, which take a second.

The kernel keeps a signal from process 1 of a container while that has no handler for it. A SIGTERM that came before
`dejaview run` has its own would be lost, and the container be killed only when its grace period is over.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

EXIT_TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run one command; returns the exit code."""
    if os.getpid() == 1:
        _end_at_sigterm()
    # Here: only now is there a handler.
    from ops.cli.main import main as command  # noqa: PLC0415

    return command()


def _end_at_sigterm() -> None:
    """As any other process ends, until a command that has something in hand sets a handler of its own.

    A thread sees to it: the handler alone would wait for the main thread, which may ask Kafka for half a minute.
    """
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.signal(signal.SIGTERM, _end)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(told,), name="sigterm", daemon=True).start()


def _watch(told: int) -> None:
    while number := os.read(told, 1):
        if number[0] == signal.SIGTERM and signal.getsignal(signal.SIGTERM) is _end:
            _end(signal.SIGTERM, None)


def _end(_number: int, _frame: object) -> None:
    os._exit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
