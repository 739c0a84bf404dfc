"""The verifier must find what is wrong: it is shown logs that were doctored."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fault.verifier import Line, check

VERIFIER = Path(__file__).with_name("verifier.py")
Doctor = Callable[[list[Line]], None]


def honest_log(count: int = 60, seed: int = 3) -> list[Line]:
    """Uploads with one answer each: verdicts, sender's repeats, dead letters."""
    rng = random.Random(seed)
    lines: list[Line] = []
    for n in range(count):
        place, time_ms = f"t:{n % 4}:{n // 4}", 1_000 * n
        named = {"tenant": "a", "upload_id": f"u{n}", "sha256": f"s{n}"}
        lines.append({"kind": "upload", "place": place, "time_ms": time_ms, **named})
        answer: Line = {"place": place, "time_ms": time_ms + rng.randrange(900), **named}
        if n % 10 == 9:
            lines.append({**answer, "kind": "dead_letter", "reason": "bad_image"})
            continue
        verdict = "unique" if n % 3 else "duplicate"
        body = {"verdict": verdict, "match": None}
        lines.append({**answer, **body, "kind": "verdict", "repeat": False})
        if n % 20 == 5:
            again = f"t:9:{n}"
            lines.append({"kind": "upload", "place": again, "time_ms": time_ms, **named})
            lines.append({**answer, **body, "kind": "verdict", "place": again, "repeat": True})
    return lines


def verdicts(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["kind"] == "verdict"]


def drop_a_verdict(lines: list[Line]) -> None:
    lines.remove(verdicts(lines)[7])


def drop_a_dead_letter(lines: list[Line]) -> None:
    lines.remove(next(line for line in lines if line["kind"] == "dead_letter"))


def say_it_twice(lines: list[Line]) -> None:
    lines.append(dict(verdicts(lines)[4]))


def verdict_beside_dead_letter(lines: list[Line]) -> None:
    letter = next(line for line in lines if line["kind"] == "dead_letter")
    lines.append({**verdicts(lines)[0], **{name: letter[name] for name in ("place", "tenant", "upload_id", "sha256")}})


def say_something_else(lines: list[Line]) -> None:
    first = verdicts(lines)[4]
    lines.append({**first, "verdict": "review" if first["verdict"] == "unique" else "unique"})


def another_match(lines: list[Line]) -> None:
    lines.append({**verdicts(lines)[4], "match": "somebody"})


def repeat_differs(lines: list[Line]) -> None:
    next(line for line in verdicts(lines) if line["repeat"])["verdict"] = "review"


def repeat_not_marked(lines: list[Line]) -> None:
    next(line for line in verdicts(lines) if line["repeat"])["repeat"] = False


def verdict_for_nothing(lines: list[Line]) -> None:
    lines.append({**verdicts(lines)[0], "place": "t:0:99999", "upload_id": "x", "sha256": "x"})


def another_topics_upload(lines: list[Line]) -> None:
    lines.append({**verdicts(lines)[0], "place": "older:0:0", "upload_id": "x", "sha256": "x"})


def dead_letter_for_nothing(lines: list[Line]) -> None:
    letter = next(line for line in lines if line["kind"] == "dead_letter")
    lines.append({**letter, "place": "t:0:99999"})


def another_upload_id(lines: list[Line]) -> None:
    verdicts(lines)[6]["upload_id"] = "somebody's"


def another_tenant(lines: list[Line]) -> None:
    verdicts(lines)[6]["tenant"] = "b"


def other_bytes(lines: list[Line]) -> None:
    verdicts(lines)[6]["sha256"] = "x"


def dead_letter_of_another_upload(lines: list[Line]) -> None:
    next(line for line in lines if line["kind"] == "dead_letter")["upload_id"] = "somebody's"


def too_late(lines: list[Line]) -> None:
    verdicts(lines)[3]["time_ms"] += 3_600_000


DOCTORED: list[tuple[Doctor, str]] = [
    (drop_a_verdict, "lost"),
    (drop_a_dead_letter, "lost"),
    (say_it_twice, "duplicated"),
    (verdict_beside_dead_letter, "duplicated"),
    (say_something_else, "contradictory"),
    (another_match, "contradictory"),
    (repeat_differs, "contradictory"),
    (repeat_not_marked, "contradictory"),
    (verdict_for_nothing, "orphan"),
    (another_topics_upload, "orphan"),
    (dead_letter_for_nothing, "orphan"),
    (another_upload_id, "orphan"),
    (another_tenant, "orphan"),
    (other_bytes, "orphan"),
    (dead_letter_of_another_upload, "orphan"),
    (too_late, "late"),
]


def run(lines: list[Line], folder: Path) -> tuple[int, dict[str, Any]]:
    """The verifier as the harness runs it: a process of its own."""
    log, report = folder / "log.jsonl", folder / "report.json"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, str(VERIFIER), "--log", str(log), "--late-s", "60", "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(report.read_text())


def test_an_honest_log_passes(tmp_path: Path) -> None:
    """Break: report every second upload as lost."""
    status, report = run(honest_log(), tmp_path)
    assert status == 0
    assert (report["uploads"], report["verdicts"], report["dead_letters"], report["repeats"]) == (63, 57, 6, 3)


@pytest.mark.parametrize(("doctor", "finding"), DOCTORED)
def test_a_doctored_log_fails(doctor: Doctor, finding: str, tmp_path: Path) -> None:
    """Each kind of finding is named. Break: leave one of the checks out."""
    lines = honest_log()
    doctor(lines)
    status, report = run(lines, tmp_path)
    assert status == 1
    assert report[finding], report


def test_findings_do_not_depend_on_the_order_of_the_log() -> None:
    """Topics are read one after another: an answer may come before its upload in the log."""
    lines = honest_log()
    random.Random(1).shuffle(lines)
    assert not check(lines, 60).findings
