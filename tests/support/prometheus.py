"""Prometheus and promtool: the machine's, else what Debian's package holds, unpacked and not installed.

`python -m tests.support.prometheus` fetches it, so that no test waits for that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from ops.local.cache import fetch_once
from ops.local.errors import LocalError

_COMMANDS = (["apt-get", "download", "-qq", "prometheus"], ["sh", "-c", "dpkg -x prometheus_*.deb . && rm *.deb"])


@cache
def program(name: str) -> str:
    """The path of `prometheus` or `promtool`.

    Raises:
        LocalError: there is none, and this is no Debian or nothing can be fetched.
    """
    own = shutil.which(name)
    return own or str(fetch_once("prometheus", _unpack) / "usr" / "bin" / name)


def _unpack(folder: Path) -> None:
    """Installing it would start it, too."""
    # A container's image has no lists of packages.
    update = [["apt-get", "update", "-qq"]] if os.geteuid() == 0 else []
    for command in (*update, *_COMMANDS):
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise LocalError(f"there is no Prometheus here: install it ({error})") from error
        if ended.returncode != 0:
            raise LocalError(
                f"there is no Prometheus here, and {' '.join(command)} says: {ended.stderr or ended.stdout}"
            )


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{program('promtool')}\n")
    except LocalError as error:
        sys.exit(str(error))
