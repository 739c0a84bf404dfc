"""Built engines on disk: a build takes minutes, and its result fits one GPU, driver and library only.

One file an engine: a line of JSON with everything that the engine depends on and the SHA-256 of what follows, then the
engine's own bytes, no pickle. It appears by one rename, so that a head never meets another's body. What is not whole,
or not what is asked for, is thrown away with a warning and built anew.

The SHA-256 tells damage, not malice: an engine holds code for the GPU, and who can write this folder decides what runs.
So a folder that others may write is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger("dejaview.models")

FORMAT = 1
HEAD_BYTES_MAX = 4096
# An engine of the larger backbone takes 20 MB.
ENGINE_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine depends on. Two keys that differ in anything have two files."""

    model_id: str
    network: str
    precision: str
    batch: str
    gpu: str
    capability: str
    driver: str
    libraries: str

    @property
    def file_name(self) -> str:
        """Letters, digits and hyphens, whatever the GPU is called."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.engine"


class EngineCache:
    """Engines in one folder. Every failure of the disk is a warning: without a cache the engine is built again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: EngineKey) -> bytes | None:
        """The engine kept under this key; None if there is none that is whole."""
        file = self._folder / key.file_name
        try:
            if not file.exists() or not self._is_private():
                return None
            return _checked(file, key)
        except (OSError, ValueError) as error:
            log.warning("the engine %s is built anew: %s", file, error)
            self.discard(key)
            return None

    def write(self, key: EngineKey, engine: bytes) -> None:
        """Keep an engine; another process that does so at the same time does no harm."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_private():
                _write_at_once(self._folder / key.file_name, _head(key, engine) + engine)
        except OSError as error:
            log.warning("the engine is not kept, the next start builds it again: %s", error)

    def discard(self, key: EngineKey) -> None:
        """Throw away what is kept under this key."""
        try:
            (self._folder / key.file_name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be thrown away: %s", self._folder / key.file_name, error)

    def _is_private(self) -> bool:
        """Whether nobody else may write the folder."""
        found = self._folder.stat()
        private = found.st_uid == os.geteuid() and not found.st_mode & 0o022
        if not private:
            log.warning("%s is not used for engines: others may write it; chown it, chmod 700", self._folder)
        return private


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/dejaview/engines`, or the same under `~/.cache`."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "dejaview" / "engines"


def _head(key: EngineKey, engine: bytes) -> bytes:
    head = {"format": FORMAT, "key": asdict(key), "bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()}
    return json.dumps(head, sort_keys=True).encode() + b"\n"


def _checked(file: Path, key: EngineKey) -> bytes:
    """The engine in a file.

    Raises:
        ValueError: the file is not what its head says, or of another key.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.readline(HEAD_BYTES_MAX)
        engine = stream.read(ENGINE_BYTES_MAX + 1)
    if head != _head(key, engine):
        raise ValueError("the file is damaged, cut off or another engine's")
    return engine


def _write_at_once(file: Path, content: bytes) -> None:
    descriptor, unfinished = tempfile.mkstemp(prefix=".engine-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(unfinished).replace(file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
