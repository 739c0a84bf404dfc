"""`dejaview run`: the stages, until a signal or a failure."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from ops.allocator import give_back_large_blocks
from ops.cli.settings import add_settings_options, load_settings
from stream.errors import DejaviewError

if TYPE_CHECKING:
    from stream.service import Service

log = logging.getLogger("dejaview")

STOPPING = (signal.SIGTERM, signal.SIGINT)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `run`."""
    parser = subparsers.add_parser("run", help="run the stages: encode, decide, index")
    parser.add_argument(
        "--stage", action="append", default=[], choices=("encode", "decide", "index"), help="repeatable; default: all"
    )
    add_settings_options(parser)
    parser.set_defaults(func=run, log_level_default="info")


def run(args: argparse.Namespace) -> int:
    """Run the stages; 0 after a signal and a clean drain, 1 after a failure."""
    give_back_large_blocks()
    settings = load_settings(args.config, args.flags).settings
    # Here: it imports pymilvus, and `--help` and wrong settings answer without.
    from stream.service import Service, parse_stages  # noqa: PLC0415

    service = Service(settings, parse_stages(args.stage))
    _stop_on_signals(service)
    port = service.start()
    print(
        f"dejaview runs {', '.join(service.stages)}; metrics at http://{settings.health.host}:{port}/metrics",
        flush=True,
    )
    try:
        service.wait()
    finally:
        drained = service.close()
        # While the interpreter takes itself down its handlers are gone: one more signal would be the exit code.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    return _result(service, drained=drained)


def _result(service: Service, *, drained: bool) -> int:
    failure = service.failure
    if failure is not None:
        kind = "" if isinstance(failure, DejaviewError) else f"{type(failure).__name__}: "
        print(f"dejaview: {kind}{failure}", file=sys.stderr)
    if not drained:
        # A stage hangs in a call that does not return; its thread would keep the process for ever.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return 0 if failure is None else 1


def _stop_on_signals(service: Service) -> None:
    """SIGTERM and SIGINT stop the service; a second one changes nothing.

    The handler only puts into a SimpleQueue, which is reentrant: `Event.set` inside a handler can wait
    for a lock that the interrupted `Event.wait` holds.
    """
    signals: SimpleQueue[int] = SimpleQueue()

    def stop() -> None:
        number = signals.get()
        log.info("%s: draining for at most drain_s (%g s)", signal.Signals(number).name, service.settings.drain_s)
        service.stop.set()

    threading.Thread(target=stop, name="signals", daemon=True).start()
    for number in STOPPING:
        signal.signal(number, lambda received, _frame: signals.put(received))
