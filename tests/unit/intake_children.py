"""Decoder children of the tests' own, well-behaved and otherwise, and what the tests of them share."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stream
from stream.config import IntakeSettings
from stream.errors import ItemError
from stream.intake.child import COMMAND
from stream.intake.sandbox import DecoderPool

MakePool = Callable[..., DecoderPool]
HOME = Path(stream.__file__).parents[1]

# A child that calls `decode_picture` of its own instead of decoding. The limits follow as the last argument.
OWN = "import os, signal, sys, time\nfrom stream.intake import decoder_child, decode\n{}\n"
OWN += "sys.exit(decoder_child.main(sys.argv, decode_picture))"
# A child that says it is ready, takes a request, and answers with `reply`.
RAW = "import os, sys\nfrom stream.intake import wire\nos.write(1, wire.ready())\nos.read(0, 1 << 16)\n"
RAW += "H = lambda sequence, kind, length: wire.REPLY.pack(wire.MAGIC, sequence, kind, length)\nos.write(1, {})\n"

# Tells its process id through the queue (a FIFO) at argv[1] and stays, as long as the queue is there.
HOLD = """def decode_picture(data, limits):
    if os.path.exists(sys.argv[1]):
        queue = os.open(sys.argv[1], os.O_WRONLY)
        os.write(queue, str(os.getpid()).encode())
        os.close(queue)
        signal.pause()
    return decode.decode(data, limits)"""


def child(program: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program, *arguments)


def photo(seed: int = 1, size: tuple[int, int] = (300, 200)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, "JPEG")
    return file.getvalue()


def gone(pid: int) -> bool:
    """Wait for the end of a process."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([handle], [], [], 20)
    os.close(handle)
    return bool(ended)


def failed(pool: DecoderPool, data: bytes | None = None) -> ItemError:
    with pytest.raises(ItemError) as caught:
        pool.decode(photo() if data is None else data)
    return caught.value


@contextmanager
def pools() -> Iterator[MakePool]:
    """A maker of pools of one process, which are closed in the end."""
    made = []

    def make(command: tuple[str, ...] = COMMAND, **settings: object) -> DecoderPool:
        made.append(DecoderPool(IntakeSettings(**{"decoders": 1, **settings}), command))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
