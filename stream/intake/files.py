"""`file://` references: regular files inside the allowed folders.

Guaranteed, whatever is renamed or relinked meanwhile: the bytes come from a regular file that was reached from an
allowed folder by names alone, without following a link (links are followed before, and their target must lie inside).
Not covered: hard links to files elsewhere, mounts inside an allowed folder, and a network file system that hangs in the
middle of a call, which no deadline can interrupt.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.events import Reason
from stream.errors import ItemError, SettingError, StoreUnavailable
from stream.intake.deadline import Deadline

_HOSTS = ("", "localhost")
_CHUNK_BYTES = 1 << 20
_STEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_REFUSED = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO, errno.EINVAL}


class FileStore:
    """Reads files below `roots`."""

    def __init__(self, roots: Sequence[Path], bytes_max: int) -> None:
        """Resolve the folders once.

        Raises:
            SettingError: one of them is not a folder.
        """
        for root in roots:
            if not root.is_dir():
                raise SettingError(f"intake.file_roots names {root}, which is not a folder; create it or remove it")
        # As written and as resolved: both may stand in a reference. Without the last slash: "/" is "".
        self._roots = [(str(root.absolute()).rstrip("/"), os.path.realpath(root).rstrip("/")) for root in roots]
        self._bytes_max = bytes_max

    def read(self, uri: str, deadline: Deadline) -> bytes:
        """See `fetch.Store`."""
        path = _path(uri)
        written, root = self._root_of(path)
        try:
            real = os.path.realpath(root + path.removeprefix(written), strict=True)
            with _opened(root, _inside(real, root)) as descriptor:
                return self._read(descriptor, deadline)
        except OSError as error:
            raise _translated(error, root) from error

    def _root_of(self, path: str) -> tuple[str, str]:
        """The folder, as the path writes it and resolved. By the text alone: nothing elsewhere is looked at."""
        for written, real in self._roots:
            for form in (written, real):
                if path.startswith(form + "/"):
                    return form, real
        raise ItemError(Reason.URI_REFUSED, "the file is in none of intake.file_roots")

    def _read(self, descriptor: int, deadline: Deadline) -> bytes:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ItemError(Reason.URI_REFUSED, "the reference names something that is not a regular file")
        data = bytearray()
        while len(data) <= self._bytes_max:
            deadline.left_s()
            chunk = os.read(descriptor, min(_CHUNK_BYTES, self._bytes_max + 1 - len(data)))
            if not chunk:
                return bytes(data)
            data += chunk
        raise ItemError(Reason.TOO_LARGE, f"the file is above intake.bytes_max ({self._bytes_max})")


def _path(uri: str) -> str:
    place = uri[len("file:") :]
    if not place.startswith("//"):
        raise ItemError(Reason.BAD_REFERENCE, "a file reference begins with file:///")
    host, slash, rest = place[2:].partition("/")
    if host.lower() not in _HOSTS:
        raise ItemError(Reason.URI_REFUSED, "a file reference names no host")
    if any(character in rest for character in "%?#"):
        raise ItemError(Reason.URI_REFUSED, "a file reference holds no %, ? or #; the path is taken as it is written")
    if not slash or any(part in ("", ".", "..") for part in rest.split("/")):
        raise ItemError(Reason.URI_REFUSED, "a file reference is an absolute path without empty parts, . or ..")
    return slash + rest


def _inside(real: str, root: str) -> list[str]:
    """The names from the folder to the file.

    Raises:
        ItemError: `uri_refused`; a link leads out of the folder.
    """
    if not real.startswith(root + "/"):
        raise ItemError(Reason.URI_REFUSED, "the file is in none of intake.file_roots")
    return real.removeprefix(root + "/").split("/")


@contextmanager
def _opened(root: str, names: Sequence[str]) -> Iterator[int]:
    """Open a file step by step, so that no link made since the check is followed.

    Non-blocking, as a queue (FIFO) without a writer would hold us for ever.
    """
    descriptor = os.open(root or "/", _STEP | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            below = os.open(name, _STEP | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        file = os.open(names[-1], _STEP | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = file
        yield descriptor
    finally:
        os.close(descriptor)


def _translated(error: OSError, root: str) -> ItemError | StoreUnavailable:
    if error.errno in _ABSENT and not Path(root or "/").is_dir():
        return StoreUnavailable(f"the folder {root} of intake.file_roots is gone; is it mounted?")
    if error.errno in _ABSENT:
        return ItemError(Reason.URI_NOT_FOUND, "there is no such file")
    if error.errno in _REFUSED:
        return ItemError(Reason.URI_REFUSED, f"the file cannot be opened ({errno.errorcode[error.errno]})")
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return StoreUnavailable(f"reading from {root} failed: {name}")
