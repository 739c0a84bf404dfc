"""`dejaview COMMAND`: finds the command, and turns every expected error into one message.

Exit codes: 0 done, 1 failed, 2 a setting or the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import ValidationError

from ops.cli import logs
from ops.cli.fields import nearest
from ops.cli.sources import take_flags
from stream.errors import DejaviewError, SettingError

# Only the chosen command's module is imported: some need OpenVINO or pymilvus.
COMMANDS = {
    "run": "run the stages: encode, decide, index",
    "config": "show the effective settings and where they come from",
    "topics": "create and describe the Kafka topics",
    "send": "send image files as uploads",
    "watch": "follow verdicts and dead letters",
    "replay": "send an upload's record again",
    "deadletters": "list, show and replay dead letters",
    "backfill": "judge and index an existing library",
    "compare": "where two deployments answer the same uploads differently",
    "reindex": "rebuild the index from the ledger beside the one in use, and switch",
    "doctor": "check everything dejaview depends on, and say what to fix",
    "local": "start and stop Kafka and Milvus on this machine",
    "eval": "measure accuracy per edit on photos you name",
    "train": "train the encoder on photos",
    "bench": "measure speed, cost and latency on this machine",
    "scan": "find the copies in a folder, without any server",
    "calibrate": "fit thresholds and confidences to your own pictures",
    "demo": "see dejaview work, without any server",
}
EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if sys.platform == "win32":
        return _complain(
            "this needs Linux or macOS; on Windows install WSL2 (`wsl --install`) and run it there", EXIT_WRONG
        )
    try:
        args = _parse(list(sys.argv[1:] if argv is None else argv))
        logs.set_up(args.log_level or getattr(args, "log_level_default", "warning"))
        with _Interrupt():
            return int(args.func(args))
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else EXIT_WRONG
    except (DejaviewError, ValidationError) as error:
        message = _without_input(error) if isinstance(error, ValidationError) else str(error)
        return _complain(message, EXIT_WRONG if isinstance(error, SettingError) else EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`) is gone; Python would complain once more when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED


class _Interrupt:
    """Around a command. confluent-kafka loses the KeyboardInterrupt of a Ctrl-C that reaches it inside a call, and
    raises a SystemError or a TypeError of its own: those become what they were.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._raise)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # A command that has set handlers of its own keeps them.
        if signal.getsignal(signal.SIGINT) == self._raise:
            signal.signal(signal.SIGINT, self._before)
        if self._came and isinstance(error, SystemError | TypeError):
            raise KeyboardInterrupt from error

    def _raise(self, _number: int, _frame: object) -> None:
        self._came = True
        raise KeyboardInterrupt


def _parse(tokens: list[str]) -> argparse.Namespace:
    rest, flags = take_flags(tokens)
    parser = _parser(next((token for token in rest if token in COMMANDS), None))
    if not rest:
        parser.print_help()
        parser.exit(EXIT_WRONG)
    args, extra = parser.parse_known_args(rest)
    if extra:
        # Names only: the value of a misspelt flag may be a secret.
        names = [token.partition("=")[0] for token in extra if token.startswith("-")] or extra
        parser.error(f"there is no {', '.join(names)}{nearest(names[0].removeprefix('--'))}")
    if flags and not getattr(args, "takes_settings", False):
        parser.error(f"`{args.command}` takes no settings ({flags[0].partition('=')[0]})")
    args.flags = flags
    return args


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dejaview", description="Near-duplicate detection for image uploads.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"dejaview {_version()}")
    parser.add_argument("--log-level", choices=logs.LEVELS)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name == command:
            importlib.import_module(f"ops.cli.{name}").add_parser(subparsers)
            # After the command as well; what is not given there leaves what stood before it.
            subparsers.choices[name].add_argument("--log-level", choices=logs.LEVELS, default=argparse.SUPPRESS)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _without_input(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{error.title}: {where}: {first['msg']}" if where else f"{error.title}: {first['msg']}"


def _complain(message: str, code: int) -> int:
    print(f"dejaview: {message}", file=sys.stderr)
    return code


def _version() -> str:
    try:
        return version("dejaview")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
