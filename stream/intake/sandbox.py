"""Decoding in child processes: hostile bytes may kill or hang one of those, never the worker.

The children are programs of their own (no fork: librdkafka's threads live here), talk over pipes (`wire.py`),
know no secrets and are limited in address space, CPU and wall time (`decoder_child.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import LifoQueue

from schemas.events import Reason
from stream.config import IntakeSettings
from stream.errors import ItemError, SandboxUnavailable
from stream.intake.child import COMMAND, CrashedError, DecoderProcess, NotStartedError, TimedOutError
from stream.intake.decode import Decoded, UndecodableError
from stream.intake.limits import Limits

__all__ = ["Decoded", "DecoderPool"]

log = logging.getLogger(__name__)


class _Slot:
    """A place for one process; empty when the last one could not be started."""

    def __init__(self) -> None:
        self.process: DecoderProcess | None = None


class DecoderPool:
    """`intake.decoders` processes. Thread-safe: each call takes an idle one, or waits for it.

    `restarts` counts the processes that were replaced: they crashed, hung, or vanished while idle.
    """

    def __init__(self, settings: IntakeSettings, command: Sequence[str] = COMMAND) -> None:
        """Start all processes at once, without waiting for them.

        Args:
            settings: the limits of a picture and of a process.
            command: the program of a child; tests bring misbehaving ones. The limits are appended to it.
        """
        self.restarts = 0
        self._command = tuple(command)
        self._limits = limits_of(settings)
        self._lock = threading.Lock()
        self._closed = False
        self._slots = [_Slot() for _ in range(settings.decoders)]
        self._idle: LifoQueue[_Slot] = LifoQueue()
        for slot in self._slots:
            self._try_start(slot)
            self._idle.put(slot)

    @property
    def pids(self) -> list[int]:
        """The processes there are now."""
        with self._lock:
            return [slot.process.pid for slot in self._slots if slot.process is not None]

    def decode(self, data: bytes) -> Decoded:
        """Decode one image; blocks until a process is idle and has answered.

        A crash is tried once more in a fresh process: it may have been another's fault (the kernel's memory
        killer). So is a lack of address space, which earlier pictures may have fragmented.

        Raises:
            ItemError: too large, not a picture that dejaview takes, out of time, or it crashed two processes.
            SandboxUnavailable: no process can be started, or the pool is closed.
        """
        if len(data) > self._limits.bytes_max:
            raise ItemError(
                Reason.TOO_LARGE, f"{len(data)} bytes are above intake.bytes_max ({self._limits.bytes_max})"
            )
        slot = self._idle.get()
        try:
            return self._decode_in(slot, data)
        finally:
            self._idle.put(slot)

    def close(self) -> None:
        """End all processes at once. Calls under way and waiting ones raise `SandboxUnavailable`."""
        with self._lock:
            self._closed = True
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.kill()
        taken = [self._idle.get() for _ in self._slots]
        for slot in taken:
            self._empty(slot)
            self._idle.put(slot)

    def _decode_in(self, slot: _Slot, data: bytes) -> Decoded:
        try:
            return self._attempt(slot, data)
        except CrashedError as error:
            log.warning("decoding is tried once more: %s", error)
        try:
            return self._attempt(slot, data)
        except CrashedError as error:
            raise ItemError(Reason.DECODER_CRASHED, f"twice: {error}") from None

    def _attempt(self, slot: _Slot, data: bytes) -> Decoded:
        process = self._ready_process(slot)
        try:
            return process.decode(data)
        except UndecodableError as error:
            raise ItemError(Reason(error.reason), error.detail) from None
        except TimedOutError as error:
            self._replace(slot)
            raise ItemError(Reason.DECODE_TIMEOUT, f"decoding used up its {error}") from None
        except CrashedError:
            self._replace(slot)
            raise

    def _ready_process(self, slot: _Slot) -> DecoderProcess:
        """The slot's process, started again if it is gone.

        Raises:
            SandboxUnavailable: it does not start.
        """
        if slot.process is not None and not slot.process.alive and not self._closed:
            self._replace(slot)
        try:
            process = slot.process or self._start(slot)
            process.wait_ready()
        except OSError as error:
            raise SandboxUnavailable(f"a decoder process cannot be started: {error}") from error
        except NotStartedError as error:
            self._empty(slot)
            raise SandboxUnavailable(str(error)) from error
        return process

    def _replace(self, slot: _Slot) -> None:
        with self._lock:
            self.restarts += not self._closed
        self._empty(slot)
        self._try_start(slot)

    def _try_start(self, slot: _Slot) -> None:
        """Start the next process ahead of its use; if that fails, its use will say so."""
        try:
            self._start(slot)
        except (OSError, SandboxUnavailable) as error:
            log.warning("a decoder process cannot be started: %s", error)

    def _start(self, slot: _Slot) -> DecoderProcess:
        with self._lock:
            if self._closed:
                raise SandboxUnavailable("the decoder pool is closed")
            slot.process = DecoderProcess(self._command, self._limits)
            return slot.process

    def _empty(self, slot: _Slot) -> None:
        with self._lock:
            process, slot.process = slot.process, None
        if process is not None:
            process.discard()


def limits_of(settings: IntakeSettings) -> Limits:
    """What a decoder process is told of the settings."""
    return Limits(
        bytes_max=settings.bytes_max,
        pixels_max=settings.pixels_max,
        side_max=settings.side_max,
        cpu_s=settings.decode_cpu_s,
        wall_s=settings.decode_wall_s,
        memory_bytes=settings.decode_memory_bytes,
    )
