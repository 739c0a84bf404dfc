"""The page needs nothing from outside, escapes everything, and hides neither misses nor mistakes.

Breaks that these tests catch, each tried: `escape` left out in `_beside`, `_photo_row` and `_chips`; a section left
out of `_APART`; `has_room` always true; exit code 1 on a miss, 0 on a loss; names handed to rich as markup.
"""

from __future__ import annotations

import argparse
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ops.cli import demo
from ops.demo import cards, run
from ops.demo.page import render
from ops.demo.screen import LiveScreen, PlainScreen, open_screen
from ops.demo.tally import Judged, Outcome
from ops.demo.uploads import Kind
from schemas.events import VerdictKind
from tests.unit.demo_things import dead_letter, report, upload, verdict

HOSTILE = "<script>alert('&\"')</script>.png"
CAT = upload("cat.png")
COPY = upload("cat.png", Kind.EDITED, "crop_50")
UNIQUE, DUPLICATE = VerdictKind.UNIQUE, VerdictKind.DUPLICATE


def judged(name: str, outcome: Outcome, kind: Kind = Kind.EDITED, edit: str = "crop_50") -> Judged:
    of, match = upload(name, kind, edit), upload(f"other {name}")
    said = verdict(of, UNIQUE if outcome in (Outcome.NEW, Outcome.MISSED) else DUPLICATE, match)
    return Judged(of, said, None, 0.2, outcome, match)


def everything(name: str) -> list[Judged]:
    """One of every outcome, all of a picture of this name."""
    letter = Judged(upload(name, Kind.EDITED, "x"), None, dead_letter(detail=name), 0.1, Outcome.DEAD_LETTER)
    known = [Outcome.FOUND, Outcome.MISSED, Outcome.FALSE, Outcome.REVIEW, Outcome.ALIKE, Outcome.SECOND_VIEW]
    copies = [judged(name, outcome, edit=f"{name} {outcome}") for outcome in known]
    return [judged(name, Outcome.NEW, Kind.ORIGINAL), letter, *copies]


class Tags(HTMLParser):
    """All tags and attributes of a page; an unclosed or unopened tag fails."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_from_outside_are_text_and_nothing_else() -> None:
    tags = Tags(render(report(everything(HOSTILE))))
    assert tags.names.isdisjoint({"script", "img", "link", "iframe", "object", "form"})
    assert not [name for name, _ in tags.attributes if name.startswith("on")]


def test_nothing_is_loaded_from_anywhere() -> None:
    page = render(report(everything("cat.png")))
    assert set(re.findall(r"url\(([a-z]+:[a-z]+/)", page)) == {"data:image/"}
    assert page.count("url(") == page.count("url(data:image/webp;base64,")
    assert not re.search(r"https?://|//[a-z]|@import|\bsrc=|\bhref=", page)
    assert "default-src 'none'" in page


def test_misses_mistakes_and_doubts_have_their_sections() -> None:
    page = render(report(everything("cat.png")))
    headings = re.findall(r"<h2>([^<]+)</h2>", page)
    assert headings == [
        "By edit",
        "Taken for another photograph (1)",
        "Missed (1)",
        "Left to review (1)",
        "Alike in your folder (1)",
        "The same scene from the side (1)",
        "Dead letters (1)",
        "The photographs",
        "Found, by photograph",
    ]


def test_a_card_shows_the_numbers_the_evidence_and_what_was_done() -> None:
    said = verdict(COPY, DUPLICATE, CAT)
    card = cards.card(Judged(COPY, said, None, 0.2, Outcome.FOUND, CAT), cards.Thumbnails(), {})
    for part in ("0.900", "0.500", "+0.100", "0.750", "embedding", "cropped to half of its area", "cat.png"):
        assert part in card


def test_what_was_missed_stands_beside_the_nearest_picture() -> None:
    said = verdict(COPY, UNIQUE).model_copy(update={"neighbours": verdict(COPY, DUPLICATE, CAT).neighbours})
    missed = Judged(COPY, said, None, 0.2, Outcome.MISSED)
    assert "nearest: cat.png" in cards.card(missed, cards.Thumbnails(), {CAT.upload_id: CAT})
    assert "nothing near" in cards.card(missed, cards.Thumbnails(), {})


def test_the_page_stays_small_and_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "THUMBNAIL_CHARS_MAX", 400)
    page = render(report([judged("cat.png", Outcome.MISSED, edit=f"edit {n}") for n in range(50)]))
    left_out = re.search(r"(\d+) more are not shown", page)
    assert left_out is not None
    assert page.count('<article class="card">') + int(left_out[1]) == 50


@pytest.mark.parametrize(
    ("outcome", "sent", "code"),
    [(Outcome.FOUND, 1, 0), (Outcome.MISSED, 1, 0), (Outcome.FALSE, 1, 0), (Outcome.FOUND, 2, 1)],
)
def test_only_a_lost_upload_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome, sent: int, code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(run, "run_demo", lambda *_: report([judged("cat.png", outcome)], sent=sent))
    page = tmp_path / "page.html"
    assert demo.run(parsed("--out", str(page))) == code
    assert page.is_file()
    assert ("the last words" in capsys.readouterr().err) is bool(code)


def test_the_page_has_a_place_before_the_work_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(parsed("--out", str(tmp_path / "absent" / "page.html"))) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "65", "-1", "many"])
def test_the_number_of_photographs_is_bounded(number: str) -> None:
    with pytest.raises(SystemExit):
        parsed("--photos", number)


def test_a_pipe_gets_few_plain_lines() -> None:
    output = StringIO()
    with open_screen(Console(file=output, width=40)) as screen:
        assert isinstance(screen, PlainScreen)
        screen.phase("Judging", 250)
        for number in range(250):
            screen.judged(judged("cat.png", Outcome.FOUND, edit=f"edit {number}"))
    assert output.getvalue().splitlines() == [
        "Judging (250)",
        "  100 of 250: 100 found",
        "  200 of 250: 200 found",
        "  250 of 250: 250 found",
    ]


def test_a_terminal_shows_verdicts_with_their_margins() -> None:
    output = StringIO()
    with open_screen(Console(file=output, width=160, force_terminal=True)) as screen:
        assert isinstance(screen, LiveScreen)
        screen.phase("Judging", 9)
        screen.judged(judged("[bold]cat.png", Outcome.FOUND))
    shown = output.getvalue()
    assert "+0.100" in shown
    assert shown.count("[bold]cat.png") >= 2 * shown.count("+0.100")  # upload and match: a name is no markup


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(["demo", *flags])
