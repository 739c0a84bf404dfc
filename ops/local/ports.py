"""TCP ports on this machine."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which the system takes ports for outgoing connections (32768 on Linux, 49152 on
# macOS): a port from that range may be lent to a client between two starts of a server.
_FIRST_PORT, _LAST_PORT = 20_000, 31_999
_TRIES_MAX = 1_000


def is_free(port: int) -> bool:
    """Whether a server could listen on `port`, on loopback and on all addresses."""
    return _can_bind(LOOPBACK, port) and _can_bind("", port)


def free_port() -> int:
    """A port nobody listens on. Another program may take it before it is used."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """`count` different ports nobody listens on.

    Raises:
        OSError: too few free ports.
    """
    found: list[int] = []
    for _ in range(_TRIES_MAX):
        if len(found) == count:
            return found
        port = random.randint(_FIRST_PORT, _LAST_PORT)  # noqa: S311 - no secret, only spread
        if port not in found and is_free(port):
            found.append(port)
    raise OSError(f"no {count} free TCP ports between {_FIRST_PORT} and {_LAST_PORT}")


def answers(port: int) -> bool:
    """Whether somebody accepts connections on 127.0.0.1:`port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection in TIME_WAIT after a restart is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
