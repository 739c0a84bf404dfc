"""`https://` references, when enabled: listed hosts, public addresses, no redirects.

The name is resolved once, all its addresses are checked, and the connection is made to one of those numbers: a
second look-up with another answer (DNS rebinding) never happens. The certificate must be the host's.
"""

from __future__ import annotations

import queue
import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

from schemas.events import Reason
from stream.errors import ItemError, SettingError, StoreUnavailable
from stream.intake.addresses import check_address
from stream.intake.deadline import Deadline
from stream.intake.http_get import OK, Answer, Target, get

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]

HTTPS_PORT = 443
_AUTHORITY = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?\Z")
_REDIRECTS = range(300, 400)
_ABSENT = {404, 410}
_LATER = {408, 425, 429}
_SERVER_ERRORS = range(500, 600)


def resolve(host: str, port: int) -> list[str]:
    """The numeric addresses of a host.

    Raises:
        OSError: the name service has none, or does not answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class HttpsStore:
    """Reads objects from listed hosts."""

    def __init__(
        self,
        hosts: Sequence[str],
        bytes_max: int,
        *,
        resolve: Resolve = resolve,
        check: Callable[[str], None] = check_address,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the list of hosts.

        Args:
            hosts: `name` (port 443) or `name:port`.
            bytes_max: size limit of an object.
            resolve: the name service.
            check: raises ItemError for an address that must not be connected to. There is no setting for it.
            tls: whom to trust; the system's certificate authorities if None.

        Raises:
            SettingError: a host is written in another way.
        """
        for host in hosts:
            if _AUTHORITY.match(host.lower()) is None:
                raise SettingError(f"intake.https_hosts names {host!r}; write a host as `name` or `name:port`")
        self._hosts = {_with_port(host.lower()) for host in hosts}
        self._bytes_max = bytes_max
        self._resolve = resolve
        self._check = check
        self._tls = ssl.create_default_context() if tls is None else tls

    def read(self, uri: str, deadline: Deadline) -> bytes:
        """See `fetch.Store`."""
        target = self._target(uri)
        addresses = resolve_within(self._resolve, target.host, target.port, deadline)
        for address in addresses:
            self._check(address)
        answer = get(target, addresses, deadline, self._bytes_max)
        if answer.status == OK:
            return answer.body
        raise _translated(answer, target)

    def _target(self, uri: str) -> Target:
        """What the URI asks for.

        Raises:
            ItemError: `bad_reference`, or `uri_refused` for a host that is not listed.
        """
        try:
            parts = urlsplit(uri)
        except ValueError:
            raise ItemError(Reason.BAD_REFERENCE, "the reference is not a URI") from None
        if not uri.isascii() or " " in uri or not parts.netloc:
            raise ItemError(Reason.BAD_REFERENCE, "an https reference has a host, and other characters percent-encoded")
        match = _AUTHORITY.match(parts.netloc.lower())
        if match is None or _with_port(match[0]) not in self._hosts:
            raise ItemError(Reason.URI_REFUSED, "the host is not in intake.https_hosts")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(match[1], int(match[2] or HTTPS_PORT), path, self._tls)


def resolve_within(resolve: Resolve, host: str, port: int, deadline: Deadline) -> Sequence[str]:
    """Resolve in a thread of its own: the system's call knows no deadline.

    A call that hangs leaves its thread behind until the system gives up, half a minute at most by default.

    Raises:
        StoreUnavailable: no answer, or not in time. A listed host that has no address is the name service's fault.
    """
    answers: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left_s())
    except queue.Empty:
        raise StoreUnavailable(f"the name service did not answer for {host} in time") from None
    if isinstance(answer, OSError):
        raise StoreUnavailable(f"{host} cannot be resolved: {answer}") from answer
    return answer


def _with_port(authority: str) -> str:
    return authority if ":" in authority else f"{authority}:{HTTPS_PORT}"


def _translated(answer: Answer, target: Target) -> ItemError | StoreUnavailable:
    status = answer.status
    if status in _LATER or status in _SERVER_ERRORS:
        return StoreUnavailable(f"{target.authority} answered {status}")
    if status in _ABSENT:
        return ItemError(Reason.URI_NOT_FOUND, f"the server answered {status}")
    if status in _REDIRECTS:
        return ItemError(Reason.URI_REFUSED, f"the server answered {status}; redirects are not followed")
    return ItemError(Reason.URI_REFUSED, f"the server answered {status}; only 200 carries a picture")
