"""The consumer groups: are their offsets still on the log, and does somebody work? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ops.doctor.report import Finding, broken, ok, or_ok, warning
from stream.kafka.admin import Group

Ends = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A stage's group, the ends of the topic it reads, and of the topic that shows what it did before.

    `written`: encode's fingerprints, decide's ledger; empty for index, whose offsets are for display.
    """

    stage: str
    topic: str
    group: Group
    ends: Ends
    written: Ends
    first_start: str = "earliest"


def check_name(stage: str) -> str:
    return f"group {stage}"


def judge_group(facts: GroupFacts) -> list[Finding]:
    check, members = check_name(facts.stage), facts.group.members
    if facts.stage == "index":
        # It goes on where its chain in Milvus ends: see the check of that.
        return [ok(check, f"{members} members")]
    lag = group_lag(facts)
    findings = [*_lost(facts), *_expired(facts)]
    if lag > 0 and members == 0:
        findings.append(warning(check, f"{lag} records wait and nobody works", f"`dejaview run --stage {facts.stage}`"))
    idle = _new(facts) and not members
    return or_ok(findings, check, "new: nothing committed yet" if idle else f"{members} members, lag {lag}")


def group_lag(facts: GroupFacts) -> int:
    """Records before the ends; markers of transactions count as records."""
    return sum(
        max(0, high - _start(facts, number, low, high)) for number, (low, high) in facts.ends.items()
    )  # fmt: skip


def _start(facts: GroupFacts, number: int, low: int, high: int) -> int:
    committed = facts.group.committed.get(number)
    if committed is not None:
        return max(low, committed)
    return high if facts.first_start == "latest" and _new(facts) else low


def _new(facts: GroupFacts) -> bool:
    return all(offset is None for offset in facts.group.committed.values())


def _lost(facts: GroupFacts) -> Iterator[Finding]:
    gone, beyond = [], []
    for number, (low, high) in facts.ends.items():
        committed = facts.group.committed.get(number)
        if committed is None:
            continue
        if committed < low:
            gone.append(f"{number} (offset {committed}, the log begins at {low})")
        elif committed > high:
            beyond.append(f"{number} (offset {committed}, the log ends at {high})")
    check, topic = check_name(facts.stage), facts.topic
    if gone:
        yield broken(
            check,
            f"retention deleted records of {topic} that were not read, in partition {_some(gone)}",
            f"raise retention.ms of {topic}; stop the stage and say where to go on: {_reset(facts)}",
        )
    if beyond:
        yield broken(
            check,
            f"committed beyond the end of {topic}, in partition {_some(beyond)}: the topic was created anew or cut",
            f"stop the stage and say where to go on: {_reset(facts)}",
        )


def _expired(facts: GroupFacts) -> Iterator[Finding]:
    """No offset beside what the group has written: it expired, or `kafka.group_prefix` was changed."""
    committed, check = facts.group.committed, check_name(facts.stage)
    if facts.stage == "decide":
        forgotten = [n for n, (low, high) in facts.written.items() if high > low and committed.get(n) is None]
        if forgotten:
            yield broken(
                check,
                f"no committed offset in partition {_some(list(map(str, forgotten)))}, whose ledger is not empty: the "
                "offsets expired, or kafka.group_prefix was changed; DECIDE refuses to judge everything again",
                f"restore kafka.group_prefix, or say where to go on: {_reset(facts)}",
            )
        return
    if facts.stage == "encode" and _new(facts) and any(high > low for low, high in facts.written.values()):
        yield warning(
            check,
            "no committed offset, and there are fingerprints: the offsets expired, or kafka.group_prefix was changed; "
            f"ENCODE begins anew at first_start ({facts.first_start})",
            f"restore kafka.group_prefix, or say where to go on: {_reset(facts)}",
        )


def _reset(facts: GroupFacts) -> str:
    names = f"--group {facts.group.name} --topic {facts.topic}"
    return f"kafka-consumer-groups --reset-offsets {names} --to-earliest --execute"


def _some(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")  # noqa: PLR2004
