"""Where the program `dejaview` begins: a signal handler first, then the imports, which take a second.

The kernel keeps a signal from process 1 of a container while that has no handler for it. A SIGTERM that came before
`dejaview run` has its own would be lost, and the container be killed only when its grace period is over.
"""

from __future__ import annotations

import os
import signal
import sys

EXIT_TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run one command; returns the exit code."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    # Here: only now is there a handler.
    from ops.cli.main import main as command  # noqa: PLC0415

    return command()


def _end(_number: int, _frame: object) -> None:
    """What SIGTERM does to any other process; a command that has something in hand sets a handler of its own."""
    os._exit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
