"""What the documents say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import stream.commit
import stream.index
from ops.cli.config import markdown
from ops.cli.main import COMMANDS
from tests.fault.mutations import TABLE
from tests.support.breaks import BREAKS
from tests.support.sabotage import STEPS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
# Breaks that show in some runs only, or after an hour.
UNPROVED = {"keep-the-reached-end", "remember-every-poll"}


def test_the_settings_table_is_the_models() -> None:
    """README lists every setting with its default. Break: change a default and not the README.

    Mend it with `dejaview config --markdown`.
    """
    found = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1].strip() == markdown().strip()


def test_named_files_exist() -> None:
    """Every path that the documents name in code marks is there. Break: rename a module."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/weights/*/*.md")]
    assert len(documents) > len(list(ROOT.glob("*.md"))) + 1
    for document in documents:
        for name in re.findall(r"`((?:stream|models|schemas|ops|tests|docs)/[\w./-]+)`", document.read_text()):
            assert (ROOT / name).exists(), f"{document} names {name}"


def test_fault_tests_that_are_named_exist() -> None:
    """A bare `test_….py` in `docs/reliability.md` lies in `tests/fault/`. Break, tried: rename one there."""
    named = set(re.findall(r"`(test_\w+\.py)`", RELIABILITY))
    assert named
    assert {name for name in named if not (ROOT / "tests" / "fault" / name).exists()} == set()


def test_the_numbered_steps_are_the_same_everywhere() -> None:
    """ARCHITECTURE's tables, the docstrings of the two stages and the places where tests crash them have the same
    numbers, the commit the same words too, and `docs/reliability.md` counts them. Breaks, each tried: renumber a step
    in one of the four; reword one of the commit's.
    """
    commit, index = steps_under("The commit"), steps_under("The index stage's steps")
    docstring = re.findall(r"^(\d+)\. (.+)$", stream.commit.__doc__ or "", re.MULTILINE)
    assert {int(number): text for number, text in docstring} == commit
    assert [int(number) for number in re.findall(r"-> (\d) ", stream.index.__doc__ or "")] == list(index)
    places = {stage: [name for name in STEPS if name.startswith(f"{stage}.")] for stage in ("commit", "index")}
    numbers = {
        stage: {int(found[1]) for name in names if (found := re.match(r"\w+\.(\d+)", name))}
        for stage, names in places.items()
    }
    assert numbers == {"commit": set(commit), "index": set(index)}
    counted = f"each of {len(places['commit'])} places of the commit and {len(places['index'])} of the index stage"
    assert f"{counted} (the {len(commit) + len(index)} numbered ones" in RELIABILITY


def steps_under(heading: str) -> dict[int, str]:
    """The numbered table of a section of ARCHITECTURE.md: number -> step."""
    section = ARCHITECTURE.partition(f"## {heading} ")[2].partition("\n## ")[0]
    return {int(number): text for number, text in re.findall(r"^\| (\d+) \| ([^|]+) \|", section, re.MULTILINE)}


def test_named_commands_exist() -> None:
    """Every `dejaview COMMAND` in the README is one. Break: rename a command."""
    named = set(re.findall(r"dejaview ([a-z]+)", re.sub(r"`dejaview\.\w+`", "", README)))
    assert named & set(COMMANDS) == named - {"tells", "together"}


def test_the_mutation_table_is_the_documents() -> None:
    """Every break is in the table, and every line of the table in `docs/reliability.md`. Break: add a break alone."""
    assert {m.name for m in TABLE} | UNPROVED == set(BREAKS)
    for mutation in TABLE:
        line = re.search(rf"^\| {mutation.promise} \| `{mutation.name}` \|.*\| (.+) \|$", RELIABILITY, re.MULTILINE)
        assert line is not None, mutation.name
        assert line[1] != "not run yet", mutation.name
        file, _, test = mutation.test.partition("::")
        assert (ROOT / file).exists()
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()
    assert {f"R{n}" for n in range(1, 12)} == {m.promise for m in TABLE}
