"""What the documents say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from ops.cli.config import markdown
from ops.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_models() -> None:
    """README lists every setting with its default. Break: change a default and not the README.

    Mend it with `dejaview config --markdown`.
    """
    found = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1].strip() == markdown().strip()


def test_named_files_exist() -> None:
    """Every path that the documents name in code marks is there. Break: rename a module."""
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for name in re.findall(r"`((?:stream|models|schemas|ops|tests)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{document} names {name}"


def test_named_commands_exist() -> None:
    """Every `dejaview COMMAND` in the README is one. Break: rename a command."""
    named = set(re.findall(r"dejaview ([a-z]+)", re.sub(r"`dejaview\.\w+`", "", README)))
    assert named & set(COMMANDS) == named - {"tells", "together"}
