"""Programs of the extra `dev` (hadolint, zizmor, check-jsonschema), which lie beside Python or on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.missing import is_missing


def run_program(name: str, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it; a program that is not installed skips the test, and fails it in CI."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        is_missing(f"{name} is not installed (extra `dev`)")
    return subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
