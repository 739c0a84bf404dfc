"""A decoder process: `python -m stream.intake.decoder_child LIMITS`, started by `child.py` only.

It reads requests from standard input and writes replies to standard output (`wire.py`), one at a time, until
standard input ends, which it does when the parent is gone. What bounds it:

- address space: RLIMIT_AS (Linux only: other kernels refuse or ignore it);
- CPU time: the soft RLIMIT_CPU, set anew for every picture; whole seconds, rounded up; it ends in SIGXCPU;
- wall time: the parent's clock, and SIGALRM a little later, so that a hung child without a parent ends too
  (PR_SET_PDEATHSIG would follow the parent's *thread*, and those come and go);
- files: a few descriptors, no writing.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from stream.intake import wire
from stream.intake.decode import Decoded, UndecodableError, configure_pillow, decode
from stream.intake.limits import Limits

Decode: TypeAlias = Callable[[bytes, Limits], Decoded]

# The exit status of a child that ran out of address space.
OUT_OF_MEMORY = 77
FILES_MAX = 16
# How much later than the parent the child's own alarm ends it.
ALARM_FACTOR = 1.5


def main(arguments: list[str], decode_picture: Decode = decode) -> int:
    """Serve until the parent goes away. Returns the exit status."""
    limits = Limits.from_json(arguments[-1])
    requests, replies = _claim_pipes()
    configure_pillow(limits)
    _restrict(limits)
    try:
        _serve(requests, replies, limits, decode_picture)
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _serve(requests: BinaryIO, replies: BinaryIO, limits: Limits, decode_picture: Decode) -> None:
    _send(replies, wire.ready())
    while header := requests.read(wire.REQUEST.size):
        sequence, length = wire.read_request_header(header, limits)
        data = requests.read(length)
        if len(data) < length:
            return
        _arm(limits)
        reply = _answer(sequence, data, limits, decode_picture)
        _disarm()
        _send(replies, reply)


def _answer(sequence: int, data: bytes, limits: Limits, decode_picture: Decode) -> bytes:
    try:
        return wire.decoded(sequence, decode_picture(data, limits))
    except UndecodableError as error:
        return wire.refused(sequence, error)


def _send(replies: BinaryIO, message: bytes) -> None:
    replies.write(message)
    replies.flush()


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes under new descriptors, so that nothing a library reads or prints meets the protocol.

    Standard error never blocks: the parent reads it when it cares to, and what the pipe cannot take is lost.
    """
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    os.set_blocking(2, False)
    return requests, replies


def _restrict(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def _arm(limits: Limits) -> None:
    """Give the next picture its CPU and wall time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used_s + limits.cpu_s), hard))
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s * ALARM_FACTOR)


def _disarm() -> None:
    """Sending the reply and waiting for the next picture cost no time: the parent may be stopped."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
