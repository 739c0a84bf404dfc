"""What the documents say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from ops.cli.config import markdown
from ops.cli.main import COMMANDS
from tests.fault.mutations import TABLE
from tests.support.breaks import BREAKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Breaks that show in some runs only, or after an hour.
UNPROVED = {"keep-the-reached-end", "topics-unwatched", "remember-every-poll"}


def test_the_settings_table_is_the_models() -> None:
    """README lists every setting with its default. Break: change a default and not the README.

    Mend it with `dejaview config --markdown`.
    """
    found = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1].strip() == markdown().strip()


def test_named_files_exist() -> None:
    """Every path that the documents name in code marks is there. Break: rename a module."""
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/reliability.md"):
        text = (ROOT / document).read_text()
        for name in re.findall(r"`((?:stream|models|schemas|ops|tests)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{document} names {name}"


def test_named_commands_exist() -> None:
    """Every `dejaview COMMAND` in the README is one. Break: rename a command."""
    named = set(re.findall(r"dejaview ([a-z]+)", re.sub(r"`dejaview\.\w+`", "", README)))
    assert named & set(COMMANDS) == named - {"tells", "together"}


def test_the_mutation_table_is_the_documents() -> None:
    """Every break is in the table, and every line of the table in `docs/reliability.md`. Break: add a break alone."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert {m.name for m in TABLE} | UNPROVED == set(BREAKS)
    for mutation in TABLE:
        assert re.search(rf"^\| {mutation.promise} \| `{mutation.name}` \|", text, re.MULTILINE), mutation.name
        file, _, test = mutation.test.partition("::")
        assert (ROOT / file).exists()
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()
    assert {f"R{n}" for n in range(1, 12)} == {m.promise for m in TABLE}
