"""release.py [VERSION]: is every file of this version, and what does CHANGELOG.md say of it? Prints the notes.

Without VERSION that of pyproject.toml. Exits with 1 when a file names another, or the changes have no section of it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# File -> where in it the version stands.
PLACES = {
    "charts/dejaview/Chart.yaml": (r'^appVersion: "(.+)"$', r"^version: (.+)$"),
    "charts/dejaview/examples/gpu-production.yaml": (r"\btag: ([\w.]+)-gpu\b",),
    "Dockerfile": (r"^ARG VERSION=(.+)$",),
    "compose.yaml": (r"\$\{DEJAVIEW_TAG:-([^}]+)\}",),
}


def named_versions(root: Path) -> dict[str, set[str]]:
    """File -> the versions of dejaview that it names."""
    found = {
        name: {v for place in places for v in re.findall(place, (root / name).read_text(), re.MULTILINE)}
        for name, places in PLACES.items()
    }
    found["pyproject.toml"] = {tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]}
    return found


def notes(changes: str, version: str) -> str:
    """The section of a version, without its heading; empty when there is none."""
    section = re.search(rf"^## {re.escape(version)}\b.*\n(?P<text>(?:(?!## ).*\n?)*)", changes, re.MULTILINE)
    return section["text"].strip() if section else ""


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Print the notes; exit status."""
    found = named_versions(root)
    version = arguments[0] if arguments else next(iter(found["pyproject.toml"]))
    wrong = {name: versions for name, versions in found.items() if versions != {version}}
    for name, versions in wrong.items():
        print(f"{name} names {', '.join(sorted(versions)) or 'no version'}, not {version}", file=sys.stderr)
    text = notes((root / "CHANGELOG.md").read_text(), version)
    if not text:
        print(f"CHANGELOG.md has no section `## {version}`", file=sys.stderr)
    if wrong or not text:
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
