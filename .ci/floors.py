"""floors.py [FLOORS [CONSTRAINTS]]: is an installed or pinned version below the list's?

Exits with 1 when one is, with 2 when the list cannot be read or meets nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).parent


def floors(text: str) -> Iterator[tuple[str, Version, str]]:
    """Name, lowest version and reason of every line.

    Raises:
        ValueError: a line has less, or no version.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        try:
            name, lowest, reason = parts
            yield str(canonicalize_name(name)), Version(lowest), reason
        except (ValueError, InvalidVersion) as error:
            raise ValueError(f"line {number}: {line!r} is not `name version reason` ({error})") from error


def pins(text: str) -> dict[str, Version]:
    """`name==version` lines."""
    lines = (line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    return {str(canonicalize_name(name.strip())): Version(pinned.strip()) for name, pinned in lines}


def installed(name: str) -> Version | None:
    try:
        return Version(version(name))
    except PackageNotFoundError:
        return None


def main(arguments: list[str]) -> int:
    listed = Path(arguments[0]) if arguments else HERE / "floors.txt"
    constraints = Path(arguments[1]) if len(arguments) > 1 else HERE.parent / "constraints.txt"
    pinned = pins(constraints.read_text())
    checked, low = 0, []
    try:
        for name, lowest, reason in floors(listed.read_text()):
            found = {"installed": installed(name), "pinned": pinned.get(name)}
            checked += any(found.values())
            low += [
                f"{name} {found_version} is {where}, below {lowest}: {reason}"
                for where, found_version in found.items()
                if found_version is not None and found_version < lowest
            ]
    except (OSError, ValueError) as error:
        print(f"floors: {listed}: {error}", file=sys.stderr)
        return 2
    if not checked:
        print(f"floors: nothing that {listed} lists is installed or pinned", file=sys.stderr)
        return 2
    for line in low:
        print(f"floors: {line}", file=sys.stderr)
    print(f"floors: {checked} packages compared, {len(low)} too old")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
