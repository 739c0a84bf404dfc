"""Counts what went in and what came out, and names what is wrong. Knows nothing of dejaview's code.

    python tests/fault/verifier.py --bootstrap HOST:PORT --uploads T --verdicts T … --deadletters T --report FILE
    python tests/fault/verifier.py --log FILE --report FILE       (a log written before with --log-to)

It knows the public contract alone: a verdict's and a dead letter's CloudEvent id is "topic id:partition:offset" of the
upload's record, a verdict's body names tenant, upload id, verdict, match and `repeat`.

    lost           an upload record with neither a verdict nor a dead letter
    duplicated     an upload record with more than one answer
    contradictory  two different verdicts for one upload event (the same record, or the same id and bytes again)
    orphan         an answer to no upload record, or one that names another upload than the record does
    late           an answer later than --late-s after its record

The exit status is 1 when anything was found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

_READ_TIMEOUT_S = 60.0
_SHOWN_MAX = 20
# What an answer says of its upload, and the upload's own record says, too.
_IDENTITY = ("tenant", "upload_id", "sha256")

Line = dict[str, Any]


@dataclass
class Report:
    """What was found; every list holds places ("topic id:partition:offset") or says more."""

    uploads: int = 0
    verdicts: int = 0
    dead_letters: int = 0
    repeats: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    orphan: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    @property
    def findings(self) -> dict[str, list[str]]:
        names = ("lost", "duplicated", "contradictory", "orphan", "late")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def check(lines: Iterable[Line], late_s: float | None = None) -> Report:
    """Judge a log.

    Args:
        lines: {"kind": "upload"|"verdict"|"dead_letter", "place": …, "time_ms": …, tenant, upload_id and sha256 (None
            where the record does not say), and for a verdict verdict, match, repeat; for a dead letter reason}.
        late_s: an answer later than this after its upload is late; None: none is.
    """
    uploads: dict[str, Line] = {}
    answers: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "upload":
            uploads[line["place"]] = line
        else:
            answers[line["place"]].append(line)
    given = [answer for own in answers.values() for answer in own]
    verdicts = [answer for answer in given if answer["kind"] == "verdict"]
    letters = [answer for answer in given if answer["kind"] == "dead_letter"]
    return Report(
        uploads=len(uploads),
        verdicts=len(verdicts),
        dead_letters=len(letters),
        repeats=sum(bool(verdict["repeat"]) for verdict in verdicts),
        kinds=dict(Counter(verdict["verdict"] for verdict in verdicts)),
        reasons=dict(Counter(letter["reason"] for letter in letters)),
        lost=[place for place in uploads if place not in answers],
        duplicated=[place for place, own in answers.items() if len(own) > 1],
        contradictory=_contradictory(answers, verdicts),
        orphan=_orphans(uploads, given),
        late=_late(uploads, given, late_s),
    )


def _orphans(uploads: dict[str, Line], given: Iterable[Line]) -> list[str]:
    found = []
    for answer in given:
        upload = uploads.get(answer["place"])
        if upload is None:
            found.append(answer["place"])
            continue
        other = {n: (upload[n], answer[n]) for n in _IDENTITY if None not in (upload[n], answer[n])}
        found += [
            f"{answer['place']}: {name} {got}, uploaded {sent}" for name, (sent, got) in other.items() if sent != got
        ]
    return found


def _said(verdict: Line) -> tuple[Any, ...]:
    return (verdict["verdict"], verdict["match"], verdict["sha256"])


def _contradictory(answers: dict[str, list[Line]], verdicts: Iterable[Line]) -> list[str]:
    found = [
        f"{place}: {[answer.get('verdict', 'dead letter') for answer in own]}"
        for place, own in answers.items()
        if len({_said(a) if a["kind"] == "verdict" else ("dead letter", a["reason"]) for a in own}) > 1
    ]
    by_event: dict[tuple[str, str, str], set[tuple[Any, ...]]] = defaultdict(set)
    first_answers: Counter[tuple[str, str, str]] = Counter()
    for verdict in verdicts:
        event = (verdict["tenant"], verdict["upload_id"], verdict["sha256"])
        by_event[event].add(_said(verdict))
        first_answers[event] += not verdict["repeat"]
    found += [f"{event}: {sorted(map(str, said))}" for event, said in by_event.items() if len(said) > 1]
    found += [f"{event}: {count} first verdicts" for event, count in first_answers.items() if count != 1]
    return found


def _late(uploads: dict[str, Line], given: Iterable[Line], late_s: float | None) -> list[str]:
    if late_s is None:
        return []
    waits = (
        (a["place"], (a["time_ms"] - uploads[a["place"]]["time_ms"]) / 1000) for a in given if a["place"] in uploads
    )
    return [f"{place}: {wait_s:.1f} s" for place, wait_s in waits if wait_s > late_s]


def read_log(bootstrap: str, uploads: str, verdicts: list[str], dead_letters: str) -> Iterator[Line]:
    """The log of a deployment: its uploads, its verdicts and dead letters (committed ones alone)."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (described,) = admin.describe_topics(TopicCollection([uploads]), request_timeout=30).values()
    topic_id = str(described.result().topic_id)
    for message in _records(bootstrap, [uploads, *dict.fromkeys(verdicts), dead_letters]):
        if message.topic() == uploads:
            place = f"{topic_id}:{message.partition()}:{message.offset()}"
            yield {"kind": "upload", "place": place, "time_ms": message.timestamp()[1], **_identity(message)}
            continue
        headers, body = dict(message.headers() or []), json.loads(message.value())
        line = {"place": headers["ce_id"].decode(), "time_ms": message.timestamp()[1]}
        line |= {name: body.get(name) for name in _IDENTITY}
        if message.topic() == dead_letters:
            yield {**line, "kind": "dead_letter", "reason": body["reason"]}
        else:
            match = body["match"]["upload_id"] if body.get("match") else None
            yield {**line, "kind": "verdict", "verdict": body["verdict"], "repeat": body["repeat"], "match": match}


def _identity(upload: Any) -> Line:
    """What an upload record says of itself in binary mode; a reference's bytes are elsewhere."""
    headers = {name: value.decode(errors="replace") for name, value in upload.headers() or [] if value is not None}
    inline = headers.get("content-type", "").startswith("image/")
    digest = sha256(upload.value()).hexdigest() if inline else None
    return {"tenant": headers.get("ce_tenant"), "upload_id": headers.get("ce_id"), "sha256": digest}


def _records(bootstrap: str, topics: list[str]) -> Iterator[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "verifier",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        known = consumer.list_topics(timeout=30).topics
        left = {(topic, number) for topic in topics for number in known[topic].partitions}
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in left])
        deadline = time.monotonic() + _READ_TIMEOUT_S
        while left:
            if time.monotonic() > deadline:
                sys.exit(f"not read to their ends in {_READ_TIMEOUT_S:g} s: {sorted(left)}")
            for message in consumer.consume(1_000, 0.1):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic(), message.partition()))
                else:
                    sys.exit(f"{message.topic()}: {error}")
    finally:
        consumer.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap")
    parser.add_argument("--uploads")
    parser.add_argument("--verdicts", nargs="+")
    parser.add_argument("--deadletters")
    parser.add_argument("--log", type=Path, help="check this log instead of a broker's topics")
    parser.add_argument("--log-to", type=Path, help="keep what was read")
    parser.add_argument("--late-s", type=float)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args(arguments)
    if args.log is not None:
        lines = [json.loads(line) for line in args.log.read_text().splitlines()]
    elif args.bootstrap and args.uploads and args.verdicts and args.deadletters:
        lines = list(read_log(args.bootstrap, args.uploads, args.verdicts, args.deadletters))
    else:
        parser.error("either --log, or --bootstrap, --uploads, --verdicts and --deadletters")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if args.log_to is not None:
        args.log_to.write_text(text)
    report = check(lines, args.late_s)
    if args.report is not None:
        digest = sha256(text.encode()).hexdigest()
        args.report.write_text(json.dumps({**asdict(report), "log_sha256": digest}, indent=1) + "\n")
    said = [f"{report.uploads} uploads, {report.verdicts} verdicts ({report.repeats} of them repeats)"]
    said += [f"{report.dead_letters} dead letters {report.reasons}"]
    said += [f"{name}: {len(places)}: {places[:_SHOWN_MAX]}" for name, places in report.findings.items()]
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
