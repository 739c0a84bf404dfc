"""`deadletters` reads times, filters and places as they are meant, sends nothing twice and steers no terminal.

Breaks that these tests catch, each tried: `moment` without the units; a filter that takes the tenant as a prefix;
`Plan` that keeps originals of other topics, or of a topic created anew; `leave_out` that takes any tenant's copy;
`cell` and `escaped` left out; a replay without a filter that goes through.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cli import deadletters
from ops.cli.deadletters import run_list, run_show
from ops.cli.letters import Filters, Letter, Plan, escaped, letter_of, local_time, moment
from ops.cli.main import main
from ops.cli.replay import REPLAY_HEADER, Place, origin_of, replayed
from schemas.cloudevents import DEAD_LETTER_TYPE
from schemas.events import DeadLetter, Reason, SourcePosition
from stream.kafka import Record

Capture = pytest.CaptureFixture[str]

NASTY = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m[red]"


def letter(
    offset: int = 0,
    *,
    reason: Reason = Reason.BAD_IMAGE,
    tenant: str | None = "t",
    at_ms: int = 1_000,
    source: tuple[str, str, int, int] = ("uploads", "id-1", 0, 0),
    detail: str = "d",
) -> Letter:
    topic, topic_id, partition, place = source
    event = DeadLetter(
        reason=reason,
        detail=detail,
        tenant=tenant,
        upload_id=detail,
        headers={"ce_id": detail},
        source=SourcePosition(topic_id=topic_id, partition=partition, offset=place),
        source_topic=topic,
        upload_timestamp_ms=500,
        replay=f"dejaview replay {topic} {partition} {place}",
    )
    return Letter(0, offset, at_ms, event)


@pytest.mark.parametrize(
    ("text", "ago_s"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800), ("999999999d", None)]
)
def test_times_ago(text: str, ago_s: int | None) -> None:
    """`2h` is two hours before now; further back than 1970 is 1970."""
    expected_ms = 0 if ago_s is None else (time.time() - ago_s) * 1000
    assert abs(moment(text) - expected_ms) < 2_000


def test_times_of_the_calendar() -> None:
    """ISO 8601 with its zone; without one it is this machine's time."""
    assert moment("2026-11-21T08:00:00Z") == int(datetime(2026, 11, 21, 8, tzinfo=UTC).timestamp() * 1000)
    assert moment("2026-11-21T08:00:00+02:00") == moment("2026-11-21T06:00:00Z")
    local = datetime(2026, 11, 21, 8).astimezone()
    assert moment("2026-11-21 08:00") == int(local.timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2w", "yesterday", "1960-01-01", "0x10s", "٢h", "1" * 50 + "s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Nothing is guessed: a mistyped time would replay too much."""
    with pytest.raises(argparse.ArgumentTypeError, match="ISO 8601"):
        moment(text)


@given(st.integers())
def test_every_timestamp_can_be_shown(epoch_ms: int) -> None:
    """A record's timestamp is its sender's: any number is shown, none raises."""
    assert str(epoch_ms) in local_time(epoch_ms) or ":" in local_time(epoch_ms)


def test_filters_are_all_of_them() -> None:
    """Reason, both ends of time and the tenant; a tenant is the whole name."""
    filters = Filters(frozenset({"bad_image", "too_large"}), 1_000, 2_000, "t")
    assert filters.take(letter(at_ms=1_000))
    assert filters.take(letter(at_ms=2_000, reason=Reason.TOO_LARGE))
    for other in (
        letter(at_ms=999),
        letter(at_ms=2_001),
        letter(tenant="t2", at_ms=1_500),
        letter(tenant=None, at_ms=1_500),
        letter(reason=Reason.BAD_EVENT, at_ms=1_500),
    ):
        assert not filters.take(other)
    assert Filters().take(letter(tenant=None))


def test_each_upload_is_planned_once() -> None:
    """Two dead letters of one upload are one; other topics' records and a topic created anew are set apart."""
    plan = Plan(
        "uploads",
        "id-1",
        [
            letter(0, at_ms=3_000, source=("uploads", "id-1", 1, 5)),
            letter(1, at_ms=2_000, source=("uploads", "id-1", 1, 5)),
            letter(2, at_ms=4_000, source=("uploads", "id-1", 0, 9)),
            letter(3, at_ms=100, source=("fingerprints", "id-2", 0, 1)),
            letter(4, at_ms=100, source=("uploads", "id-0", 0, 2)),
        ],
    )
    assert sorted(plan.originals) == [Place("uploads", 0, 9), Place("uploads", 1, 5)]
    assert plan.oldest_ms == 2_000
    assert dict(plan.elsewhere) == {"fingerprints": 1}
    assert plan.recreated == {Place("uploads", 0, 2)}


def test_what_was_sent_again_is_left_out() -> None:
    """A copy in the upload's tenant counts, also where the tenant could not be read; another tenant's does not."""
    places = [Place("uploads", 0, n) for n in range(4)]
    plan = Plan(
        "uploads",
        "id-1",
        [letter(n, tenant=None if n == 2 else "t", source=("uploads", "id-1", 0, n)) for n in range(4)],
    )
    copy = Place("uploads", 1, 7)
    plan.leave_out({places[0]: {"t": copy}, places[1]: {"attacker": copy}, places[2]: {"?": copy}})
    assert sorted(plan.originals) == [places[1], places[3]]
    assert plan.done == {places[0]: copy, places[2]: copy}


@given(st.binary(max_size=60))
def test_a_made_up_header_is_no_place(value: bytes) -> None:
    """Anybody may send the header: any bytes are read, and only `TOPIC PARTITION OFFSET` is a place."""
    found = origin_of(Record("uploads", 0, 1, 0, [(REPLAY_HEADER, value)], b""))
    if found is not None:
        assert str(found).encode() == value or value.decode("utf-8", "replace").split(" ")[0] == found.topic
    assert origin_of(Record("uploads", 0, 1, 0, [], b"")) is None


def test_a_copy_names_its_original() -> None:
    """What `replayed` writes, `origin_of` reads; the last header counts."""
    record = Record("up.loads-1", 2, 5, 0, [(REPLAY_HEADER, b"x 1 1")], b"v")
    made = replayed(record, "uploads")
    copy = Record("uploads", 0, 0, 0, [(REPLAY_HEADER, b"x 9 9"), *made.headers], b"v")
    assert origin_of(copy) == Place("up.loads-1", 2, 5)


@pytest.mark.parametrize(
    "words",
    [
        ["replay"],
        ["replay", "1"],
        ["replay", "1", "2", "3"],
        ["replay", "1", "2", "--all"],
        ["replay", "1", "2", "--reason", "bad_image"],
        ["replay", "--all", "--tenant", "t"],
        ["replay", "--reason", "no_such_reason"],
        ["replay", "--since", "yesterday"],
        ["replay", "--reson", "bad_image"],
        ["list", "--limit", "0"],
        ["show", "0"],
        ["show", "-1", "0"],
        ["nothing"],
        [],
    ],
)
def test_wrong_command_lines_do_nothing(words: list[str], capsys: Capture) -> None:
    """Exit 2 before any broker is asked; a replay of everything must be said (`--all`)."""
    assert main(["deadletters", *words, "--kafka.bootstrap_servers=127.0.0.1:1"]) == 2
    assert capsys.readouterr().err


def arguments(**values: object) -> argparse.Namespace:
    common: dict[str, object] = {
        "config": None,
        "flags": [],
        "reason": None,
        "since": None,
        "until": None,
        "tenant": None,
    }
    return argparse.Namespace(**{**common, **values})


def test_the_latest_are_listed_and_all_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """`--limit` keeps the latest in the order of their time; the counts are of all."""
    made = [
        letter(n, at_ms=1_000 * (n * 7 % 10), reason=Reason.BAD_IMAGE if n % 2 else Reason.TOO_LARGE) for n in range(10)
    ]
    monkeypatch.setattr(deadletters, "letters", lambda *_: iter(made))
    assert run_list(arguments(limit=3, json=True)) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["timestamp_ms"] for line in said.out.splitlines()] == [7_000, 8_000, 9_000]
    assert "10 dead letters (the latest 3 shown; --limit): 5 " in said.err


def test_hostile_text_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Tenant, id, detail and headers come from outside: neither table, `show` nor JSON passes their controls on."""
    hostile = letter(tenant=NASTY, detail=NASTY, source=("uploads", "id-1", 0, 0))
    record = Record("uploads", 0, 0, 0, [(NASTY, NASTY.encode()), ("ce_x", b"\xff\x1b" + b"y" * 500)], b"picture bytes")
    monkeypatch.setattr(deadletters, "letters", lambda *_: iter([hostile]))
    monkeypatch.setattr(deadletters, "letter_at", lambda *_: hostile)
    monkeypatch.setattr(deadletters, "original", lambda *_: record)
    for run, values in ((run_list, {"limit": 5, "json": False}), (run_list, {"limit": 5, "json": True})):
        assert run(arguments(**values)) == 0
    assert run_show(arguments(partition=0, offset=0)) == 0
    said = capsys.readouterr()
    shown = said.out + said.err
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert "\\x1b]0;owned\\x07" in shown
    assert "picture" not in shown
    assert "13 bytes" in shown
    assert "(502 bytes)" in shown


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    """Whatever comes, only printable characters go out, and printable text as it is."""
    assert escaped(text).isprintable()
    assert escaped("höhe 1") == "höhe 1"


def test_what_is_no_dead_letter_is_passed_over() -> None:
    """The topic may hold verdicts, or what somebody else wrote."""
    value = letter().event.model_dump_json().encode()
    headers = [("ce_type", DEAD_LETTER_TYPE.encode())]
    assert letter_of(Record("d", 3, 4, 5, headers, value)) == Letter(3, 4, 5, letter().event)
    assert letter_of(Record("d", 0, 0, 0, [], value)) is None
    assert letter_of(Record("d", 0, 0, 0, headers, b"{")) is None
    assert letter_of(Record("d", 0, 0, 0, headers, None)) is None
