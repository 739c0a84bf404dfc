"""A TCP proxy between dejaview and a server, that can be told to misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum

_CHUNK_BYTES = 65_536
_POLL_S = 0.1
_CONNECT_S = 5.0
# SO_LINGER with a time of 0: close() sends a reset.
_RESET = struct.pack("ii", 1, 0)
# How long one `send` may wait, in seconds and microseconds: a reset does not wake it.
_SEND_WAIT = struct.pack("ll", 1, 0)


class Mode(StrEnum):
    """What happens to connections, those that are open and new ones."""

    PASS = "pass"
    DELAY = "delay"
    DROP = "drop"
    RESET = "reset"
    HALF_CLOSE = "half-close"


@dataclass(eq=False)
class _Pair:
    """One client connection and its server connection."""

    client: socket.socket
    server: socket.socket
    half_closed: bool = False
    reset: bool = False
    closed: bool = False

    def close(self, *, reset: bool = False) -> None:
        """Wake both pumps. Their thread closes the sockets once both have ended: a number that is closed while a pump
        is about to read from it may be a new connection's by then, and its first request would be lost.
        """
        # Whoever closes it next (a thread that read the end) must not end it in an orderly way.
        self.reset = self.reset or reset
        self.closed = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if self.reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Shutting the other direction down, too, would send an orderly end first.
                end.shutdown(socket.SHUT_RD if self.reset else socket.SHUT_RDWR)

    def release(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.close()


@dataclass
class Proxy:
    """Listens on `port` of loopback and passes bytes on to `target_port`.

    DELAY holds every chunk `delay_s`; DROP takes bytes and passes none on (nobody is told); RESET breaks
    what is open and refuses what comes; HALF_CLOSE ends the server's direction only: the client reads an
    end of file and may still write.
    """

    port: int
    target_port: int
    delay_s: float = 0.2
    touched: int = 0
    _mode: Mode = Mode.PASS
    _pairs: set[_Pair] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False
    _listener: socket.socket | None = None

    def listen(self) -> None:
        """Take the port, so that nobody else does before `start`."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.settimeout(_POLL_S)

    def start(self) -> None:
        if self._listener is None:
            self.listen()
        listener = self._listener
        threading.Thread(target=self._accept, args=(listener,), name=f"proxy-{self.port}", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        if self._listener is not None:
            self._listener.close()
        for pair in self._all():
            pair.close()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        """From now on; `touched` counts the connections or chunks that felt it since."""
        self.touched = 0
        self._mode = mode
        if mode is Mode.RESET:
            for pair in self._all():
                self.touched += 1
                pair.close(reset=True)
        elif mode is Mode.HALF_CLOSE:
            for pair in self._all():
                self._half_close(pair)
        elif mode is Mode.PASS:
            # What was half-closed or starved cannot be healed: a new connection is what a client makes of it.
            for pair in self._all():
                if pair.half_closed:
                    pair.close()

    def _all(self) -> list[_Pair]:
        with self._lock:
            return list(self._pairs)

    def _half_close(self, pair: _Pair) -> None:
        self.touched += 1
        pair.half_closed = True
        with contextlib.suppress(OSError):
            pair.client.shutdown(socket.SHUT_WR)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self._mode is Mode.RESET:
                self.touched += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=_CONNECT_S)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_WAIT)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, server)
        with self._lock:
            self._pairs.add(pair)
        # It was set while this one was being opened.
        if self._mode is Mode.HALF_CLOSE:
            self._half_close(pair)
        elif self._mode is Mode.RESET:
            pair.close(reset=True)
        back = threading.Thread(target=self._pump, args=(pair, server, client), daemon=True)
        back.start()
        self._pump(pair, client, server)
        back.join()
        with self._lock:
            self._pairs.discard(pair)
        pair.release()

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(_CHUNK_BYTES):
                if self._mode is Mode.DELAY:
                    self.touched += 1
                    time.sleep(self.delay_s)
                if self._mode is Mode.DROP:
                    # A connection that lost bytes is broken for good once the network heals: as a reset then.
                    self.touched += 1
                    pair.half_closed = True
                    continue
                if pair.half_closed and sink is pair.client:
                    continue
                _pass_on(pair, sink, chunk)
        except OSError:
            pair.close()
            return
        if pair.half_closed and source is pair.server:
            # The other direction goes on until the client ends it.
            return
        pair.close()


def _pass_on(pair: _Pair, sink: socket.socket, chunk: bytes) -> None:
    """All of it, however long its reader takes; not a pair that was closed meanwhile."""
    rest = memoryview(chunk)
    while rest and not pair.closed:
        with contextlib.suppress(BlockingIOError):
            rest = rest[sink.send(rest) :]
