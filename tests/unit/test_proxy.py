"""The harness's proxy does what its modes say: a fault that is none proves nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ops.local.ports import LOOPBACK, free_port
from tests.support.deployment import until
from tests.support.proxy import Mode, Proxy


@dataclass
class EchoServer:
    """Sends back what it reads, and keeps it."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server((LOOPBACK, 0)))
    read: bytes = b""

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(100):
                self.read += data
                connection.sendall(data)


@pytest.fixture
def server() -> Iterator[EchoServer]:
    made = EchoServer()
    threading.Thread(target=made.run, daemon=True).start()
    yield made
    made.listener.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    made = Proxy(free_port(), server.listener.getsockname()[1])
    made.start()
    yield made
    made.close()


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection that works."""
    with socket.create_connection((LOOPBACK, proxy.port), timeout=5) as client:
        client.sendall(b"a")
        assert client.recv(10) == b"a"
        yield client


def connect_and_read(proxy: Proxy) -> bytes:
    """A reset may come before the connection is told to be there."""
    with socket.create_connection((LOOPBACK, proxy.port), 5) as late:
        return late.recv(10)


def test_a_reset_breaks_what_is_open_and_what_comes(proxy: Proxy) -> None:
    """Both ends read a reset, not an orderly end. Break: shut both directions down before the close."""
    for _ in range(5):
        proxy.mode = Mode.PASS
        with connected(proxy) as client:
            proxy.mode = Mode.RESET
            with pytest.raises(ConnectionResetError):
                client.recv(10)
            assert proxy.touched == 1
        with pytest.raises(ConnectionResetError):
            connect_and_read(proxy)


def test_half_closed(proxy: Proxy, server: EchoServer) -> None:
    """The client reads an end and may still write. Break: close both directions."""
    with connected(proxy) as client:
        proxy.mode = Mode.HALF_CLOSE
        assert client.recv(10) == b""
        client.sendall(b"still")
        until(lambda: server.read == b"astill", 5)


def test_nothing_stays_of_a_half_closed_connection_that_its_client_left(proxy: Proxy) -> None:
    """A client tries again hundreds of times a second: what it leaves open would use up the system's files.

    Break: end `_pump` without closing, whoever ended.
    """
    proxy.mode = Mode.HALF_CLOSE
    for _ in range(5):
        with socket.create_connection((LOOPBACK, proxy.port), timeout=5) as client:
            assert client.recv(10) == b""
    until(lambda: proxy.touched == 5 and not proxy._pairs, 5)


def test_dropped_bytes_are_not_passed_on(proxy: Proxy, server: EchoServer) -> None:
    """Nobody is told. Break: pass them on."""
    with connected(proxy) as client:
        proxy.mode = Mode.DROP
        client.sendall(b"gone")
        until(lambda: proxy.touched == 1, 5)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        assert server.read == b"a"


def test_delayed_bytes_arrive(proxy: Proxy) -> None:
    """Late, and whole. Break: drop them."""
    with connected(proxy) as client:
        proxy.mode = Mode.DELAY
        client.sendall(b"late")
        assert client.recv(10) == b"late"
        assert proxy.touched >= 1
