"""Links, commands and targets that the documents name are there. No site generator: the pages are read as they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ops.cli.main import COMMANDS
from tests.support.dockerfile import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "charts" / "dejaview" / "README.md"]
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# In code marks or in a line of its own, of code.
_CODE = re.compile(r"`[^`\n]+`|^    .+", re.MULTILINE)
_COMMAND = re.compile(r"^(?:`| *)(?:kubectl exec \S+ -- )?dejaview ([a-z]+)\b", re.MULTILINE)
_TARGET = re.compile(r"^(?:`| *)make ([a-z][a-z-]+)", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> str:
    """All code of a page, a line each."""
    text = page.read_text()
    return "\n".join([*_FENCE.findall(text), *_CODE.findall(_FENCE.sub("", text))])


def links() -> Iterator[tuple[Path, str, str]]:
    """Page, path and anchor of every link that stays in the repository."""
    for page in PAGES:
        for found in _LINK.finditer(_FENCE.sub("", page.read_text())):
            if "://" not in found["target"]:
                path, _, anchor = found["target"].partition("#")
                yield page, path, anchor


def test_links_lead_somewhere() -> None:
    """To a file, and to a heading of it. Breaks, each tried: a page renamed; a heading reworded."""
    found = list(links())
    assert len(found) > 50
    for page, path, anchor in found:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    """Break: a page that `docs/README.md` does not know."""
    linked = {path for page, path, _ in links() if page == ROOT / "docs" / "README.md"}
    assert {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"} <= linked


def test_commands_exist() -> None:
    """Every `dejaview COMMAND`, `make TARGET` and what Docker is to run. Break, tried: `dejaview ledger`."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = code(page)
        assert set(_COMMAND.findall(text)) <= set(COMMANDS), page.name
        assert set(_TARGET.findall(text)) <= targets, page.name
    assert len({name for page in PAGES for name in _COMMAND.findall(code(page))}) > len(COMMANDS) / 2
    composed = re.findall(r"compose run --rm --no-deps (\w+) (\w+)", (ROOT / "docs" / "deploying.md").read_text())
    assert composed
    assert {command for _, command in composed} <= set(COMMANDS)
    services = set(re.findall(r"^  (\w+):$", (ROOT / "compose.yaml").read_text(), re.MULTILINE))
    assert {service for service, _ in composed} <= services


def test_settings_that_pages_name_exist() -> None:
    """`section.name` in code marks. Break, tried: `decide.window_rows`."""
    from ops.cli.fields import section_names, setting_fields  # noqa: PLC0415

    known = set(setting_fields())
    pattern = re.compile(rf"`((?:{'|'.join(section_names())})\.\w+)`")
    for page in ROOT.glob("docs/*.md"):
        named = {name for name in pattern.findall(page.read_text()) if not name.endswith((".image", ".keda", ".py"))}
        assert named - known <= {"encode.gpu", "intake.gpu_decode"}, page.name
