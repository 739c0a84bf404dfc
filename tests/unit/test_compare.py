"""`dejaview compare`: every upload that both deployments judged is in the table once, and every difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ops.cli.compare import as_json, line
from ops.cli.main import main
from ops.cli.replay import Place
from ops.compare.flips import Comparison, compare, verdicts_of
from ops.compare.page import page, summary, table
from schemas.cloudevents import dead_letter_headers, verdict_headers
from schemas.events import DeadLetter, Neighbour, Reason, SourcePosition, Trace, Verdict, VerdictKind
from stream.kafka import Record
from tests.support.made import sha

SOURCE = SourcePosition(topic_id="uploads-1", partition=0, offset=7)


def verdict(
    upload_id: str, kind: str, *, of: str | None = None, margin: float = 0.1, repeat: bool = False, content: str = ""
) -> Record:
    match = None
    if of is not None:
        match = Neighbour(upload_id=of, similarity=0.9, score=0.8, verdict=VerdictKind.UNIQUE)
    made = Verdict(
        tenant="t", upload_id=upload_id, verdict=VerdictKind(kind), repeat=repeat, match=match, score=0.8,
        threshold=0.7, margin=margin, confidence=0.5, model_id="m", sha256=sha(content or upload_id),
        trace=Trace(source=SOURCE, source_topic="dejaview.uploads", upload_timestamp_ms=0),
    )  # fmt: skip
    return Record("v", 0, 0, 0, verdict_headers(made, "e", None), made.model_dump_json().encode())


def compared() -> Comparison:
    old = [
        verdict("a", "unique"),
        verdict("b", "duplicate", of="a"),
        verdict("c", "duplicate", of="a", margin=0.01),
        verdict("d", "duplicate", of="a"),
        verdict("e", "review", of="a", margin=-0.2),
        verdict("f", "unique"),
        verdict("b", "unique", repeat=True),
        verdict("x", "unique", content="one"),
    ]
    new = [
        verdict("a", "unique"),
        verdict("b", "duplicate", of="a"),
        verdict("c", "unique", margin=-0.01),
        verdict("d", "duplicate", of="f"),
        verdict("e", "duplicate", of="a", margin=0.3),
        verdict("g", "unique"),
        verdict("x", "duplicate", of="a", content="two"),
    ]
    return compare(verdicts_of(old), verdicts_of(new))


def test_every_difference_is_told_the_surest_first() -> None:
    """Breaks, each tried: take the last verdict on an upload, a repeat; order by id; pair other bytes."""
    found = compared()
    assert found.compared == 5
    assert found.table == {
        ("unique", "unique"): 1, ("duplicate", "duplicate"): 2, ("duplicate", "unique"): 1, ("review", "duplicate"): 1
    }  # fmt: skip
    assert [flip.upload_id for flip in found.flips] == ["e", "c"]
    assert [flip.upload_id for flip in found.other_matches] == ["d"]
    assert (found.only_old, found.only_new, found.other_bytes) == (1, 1, 1)
    assert "2 flips (40.00%), 1 with another match" in summary(found)
    assert table(found).rows[0] == ("duplicate before", "2", "1", "0")
    assert line(found.flips[1]) == "  t c: duplicate of a (0.8) -> unique (0.8)"
    assert {flip["upload_id"] for flip in as_json(found)["flips"]} == {"c", "e"}


def test_dead_letters_and_strange_records_are_no_verdicts() -> None:
    """Break: let the ValidationError through."""
    letter = DeadLetter(
        reason=Reason.BAD_IMAGE, detail="", source=SOURCE, source_topic="u", upload_timestamp_ms=0, replay="dejaview"
    )
    dead = Record("d", 0, 0, 0, dead_letter_headers(letter, None), letter.model_dump_json().encode())
    assert verdicts_of([dead, Record("v", 0, 1, 0, [], b"{}")]) == {}


def test_the_page_shows_the_upload_and_both_matches_and_escapes_names() -> None:
    """Break: write an id as it is: it comes from outside."""
    old = verdicts_of([verdict("a", "unique"), verdict("<b>", "duplicate", of="a")])
    new = verdicts_of([verdict("a", "unique"), verdict("<b>", "unique", margin=-0.1)])
    found = compare(old, new)
    asked: list[Place | None] = []

    def address(place: Place | None) -> str:
        asked.append(place)
        return "data:image/jpeg;base64,AAAA" if place else ""

    html = page(found, found.flips, old, new, address)
    assert asked == [Place("dejaview.uploads", 0, 7)] * 2
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert html.count("<img") == 2
    assert html.count("<div class='none'>") == 1


def test_two_deployments_with_the_same_verdict_topics_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Break: compare them: no flips, whatever the model."""
    other = tmp_path / "b.yaml"
    other.write_text(yaml.safe_dump({"index": {"collection": "other"}}))
    assert main(["compare", "--with", str(other)]) == 2
    assert "DEJAVIEW_TOPICS__" in capsys.readouterr().err
