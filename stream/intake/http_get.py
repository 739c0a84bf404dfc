"""One HTTP GET over a connection whose address the caller has chosen: no redirects, no proxies, no look-ups.

Every wait (connect, TLS, each single read) is cut to what the deadline leaves, so that a server which sends a byte
now and then cannot stretch it. The body is read to `bytes_max` and one byte more at most, and what comes over the
connection is counted too: `http.client` takes a chunk of length -1 for "read until the end" (Python 3.11).
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from schemas.events import Reason
from stream.errors import ItemError, StoreUnavailable
from stream.intake.deadline import Deadline

_CHUNK_BYTES = 1 << 16
# What is read of a body that only says what went wrong.
ERROR_BYTES_MAX = 4096
# Beside a body of `bytes_max`: headers, and as much again for the framing of small chunks.
_FRAMING_BYTES_MAX = 1 << 20

OK = 200


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for. `tls` is None for plain HTTP; the certificate is checked against `host`."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        usual = 443 if self.tls else 80
        return self.host if self.port == usual else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer. `body` is complete for status 200, cut to 4 KiB for others."""

    status: int
    body: bytes


def get(target: Target, addresses: Sequence[str], deadline: Deadline, bytes_max: int) -> Answer:
    """Ask the first of the numeric addresses that takes a connection.

    Raises:
        ItemError: `too_large`; `uri_refused` for a compressed body.
        StoreUnavailable: no connection, a broken certificate, a broken or late answer.
    """
    try:
        with _connected(target, addresses, deadline) as connection:
            connection.settimeout(deadline.left_s())
            connection.sendall(_request(target))
            reader = _Reader(connection, deadline, 2 * bytes_max + _FRAMING_BYTES_MAX)
            # HTTPResponse asks a socket for nothing but `makefile`.
            response = http.client.HTTPResponse(cast("socket.socket", reader), method="GET")
            with response:
                response.begin()
                return _answer(response, bytes_max)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ssl.SSLError and time-outs are OSErrors; ValueError: a header that http.client cannot read as a number.
        deadline.left_s()
        # http.client's errors quote the server, the system's do not.
        said = str(error) if isinstance(error, OSError) else type(error).__name__
        raise StoreUnavailable(f"{target.authority} did not answer properly: {said}") from error


def _request(target: Target) -> bytes:
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        "User-Agent: dejaview",
        "Accept: image/*, */*;q=0.1",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _answer(response: http.client.HTTPResponse, bytes_max: int) -> Answer:
    if response.status != OK:
        return Answer(response.status, response.read(ERROR_BYTES_MAX))
    encoding = response.getheader("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise ItemError(Reason.URI_REFUSED, "the server sends a compressed body; only pictures as they are, are taken")
    expected = response.length
    if expected is not None and expected > bytes_max:
        raise ItemError(Reason.TOO_LARGE, f"{expected} bytes are above intake.bytes_max ({bytes_max})")
    body = bytearray()
    while len(body) <= bytes_max:
        chunk = response.read(min(_CHUNK_BYTES, bytes_max + 1 - len(body)))
        if not chunk:
            break
        body += chunk
    if len(body) > bytes_max:
        raise ItemError(Reason.TOO_LARGE, f"the body is above intake.bytes_max ({bytes_max})")
    if expected is not None and len(body) != expected:
        raise http.client.IncompleteRead(b"", expected - len(body))
    return Answer(OK, bytes(body))


def _connected(target: Target, addresses: Sequence[str], deadline: Deadline) -> socket.socket:
    """A connection to one of the addresses, its certificate checked against the host's name."""
    # The text alone: an error that a frame of its own traceback holds is a circle, and holds the upload with it.
    refusal = "there is no address"
    for address in addresses:
        try:
            plain = socket.create_connection((address, target.port), timeout=deadline.left_s())
        except OSError as error:
            refusal = str(error)
            continue
        return plain if target.tls is None else _secured(plain, target.tls, target.host, deadline)
    raise OSError(refusal)


def _secured(plain: socket.socket, tls: ssl.SSLContext, host: str, deadline: Deadline) -> socket.socket:
    try:
        plain.settimeout(deadline.left_s())
        # A connection cut in the middle is an error, not the end of the body.
        return tls.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
    except BaseException:
        plain.close()
        raise


class _Reader:
    """A connection as `HTTPResponse` wants it."""

    def __init__(self, connection: socket.socket, deadline: Deadline, bytes_max: int) -> None:
        self._raw = _RawReader(connection, deadline, bytes_max)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._raw)


class _RawReader(io.RawIOBase):
    """Reads whose every single wait ends at the deadline, `bytes_max` in all."""

    def __init__(self, connection: socket.socket, deadline: Deadline, bytes_max: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._bytes_max = bytes_max
        self._taken_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._taken_bytes > self._bytes_max:
            raise ItemError(Reason.TOO_LARGE, f"the server sent more than {self._bytes_max} bytes, framing included")
        self._connection.settimeout(self._deadline.left_s())
        taken = self._connection.recv_into(buffer)
        self._taken_bytes += taken
        return taken
