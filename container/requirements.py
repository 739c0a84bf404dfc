"""requirements.py [--only] EXTRA...: what dejaview and these extras need, a line each; `--only`: the extras alone.

So an image can install packages in a layer of their own, which a change of the program leaves as it is.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_OWN_EXTRAS = re.compile(r"dejaview\[(?P<names>[\w,]+)\]")


def required(project: dict[str, Any], extras: Sequence[str]) -> Iterator[str]:
    """The requirements of extras, those that name other extras of the project resolved.

    Raises:
        KeyError: there is no such extra.
    """
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = _OWN_EXTRAS.fullmatch(line)
            if own is None:
                yield line
            else:
                yield from required(project, own["names"].split(","))


def main(arguments: Sequence[str]) -> int:
    """Exit status: 2 when there is no such extra."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = [argument for argument in arguments if argument != "--only"]
    try:
        lines = list(required(project, extras))
    except KeyError as error:
        print(f"pyproject.toml has no extra {error}", file=sys.stderr)
        return 2
    base = [] if "--only" in arguments else project["dependencies"]
    print("\n".join(dict.fromkeys([*base, *lines])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
