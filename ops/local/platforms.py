"""What this machine must have, and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.local.errors import LocalError

JAVA_VERSION_MIN = 17
_JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless")
_HELP = (
    f"Kafka needs Java {JAVA_VERSION_MIN} or newer and Maven. macOS: brew install openjdk maven. "
    "Debian, Ubuntu: apt-get install openjdk-17-jre-headless maven. Fedora: dnf install java-21-openjdk-headless maven."
)


def refuse_windows() -> None:
    """Raises:
    LocalError: this is Windows without WSL2.
    """
    if sys.platform == "win32":
        raise LocalError("Kafka and Milvus do not run on Windows itself: install WSL2 and use dejaview there.")


def ensure_java() -> str:
    """The path of `java`, 17 or newer; `mvn` is on the PATH too. Root on Debian or Ubuntu gets what is missing.

    Raises:
        LocalError: missing and not ours to install; the message names what to install.
    """
    if not _java_is_ready():
        _install_java()
    java = shutil.which("java")
    if java is None or not _java_is_ready():
        raise LocalError(f"{_missing()}. {_HELP}")
    return java


def java_version(java: str) -> int:
    """The major version of a `java` program; 0 if it does not tell (macOS has a stub without Java behind it)."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match else 0


def _java_is_ready() -> bool:
    java = shutil.which("java")
    return java is not None and java_version(java) >= JAVA_VERSION_MIN and shutil.which("mvn") is not None


def _missing() -> str:
    java = shutil.which("java")
    if java is None:
        return "there is no java on the PATH"
    version = java_version(java)
    if version < JAVA_VERSION_MIN:
        return f"java on the PATH is version {version or 'unknown'}"
    return "there is no mvn on the PATH"


def _install_java() -> None:
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise LocalError(f"{_missing()}. {_HELP}")
    _apt_get(["update", "-qq"])
    package = next((name for name in _JAVA_PACKAGES if _apt_knows(name)), _JAVA_PACKAGES[-1])
    _apt_get(["install", "-y", "-qq", "--no-install-recommends", package, "maven"])


def _apt_knows(package: str) -> bool:
    answer = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)  # noqa: S603, S607
    return answer.returncode == 0


def _apt_get(arguments: Sequence[str]) -> None:
    answer = subprocess.run(  # noqa: S603
        ["apt-get", *arguments],  # noqa: S607
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise LocalError(f"apt-get {' '.join(arguments)} failed: {answer.stderr.strip()[-500:]}. {_HELP}")
