"""Downloaded once, used by every checkout: a folder that is complete or not there."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """`$DEJAVIEW_CACHE`, or `~/.cache/dejaview`."""
    named = os.environ.get("DEJAVIEW_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "dejaview"


def fetch_once(name: str, fetch: Callable[[Path], None]) -> Path:
    """The cache's folder `name`, filled by `fetch(empty folder)` if it is not there yet.

    Two processes that ask at once fetch once: the second waits. A fetch that fails leaves nothing.
    """
    root = cache_folder()
    target = root / name
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        try:
            fetch(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target
