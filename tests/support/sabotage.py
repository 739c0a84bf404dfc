"""Deliberate breaks of the program and crashes at stated steps. The product knows nothing of them.

    SABOTAGE_BREAK=name            the program runs with this break: its promise's test must fail
    SABOTAGE_CRASH=step@n[:how]    at the n-th time it passes this step the process kills (or stops) itself
    SABOTAGE_ANSWER=kind@n         the n-th commit's answer is `lost` (it happens) or the commit is `never` sent
    SABOTAGE_MARK=file             written just before that

`tests.support.worker` is `dejaview` with these applied. Tests that call the code itself get them from
`tests/conftest.py`.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.breaks import BREAKS, Call, replace

BREAK, CRASH, ANSWER, MARK = "SABOTAGE_BREAK", "SABOTAGE_CRASH", "SABOTAGE_ANSWER", "SABOTAGE_MARK"
_COMMIT_SENT_S = 0.002

# Step -> (class, method, whether the process ends before or after the call). The numbers are those of
# `stream/commit.py` and `stream/index.py`.
STEPS: dict[str, tuple[str, str, str]] = {
    "commit.1": ("stream.kafka.producer.LogProducer", "begin", "before"),
    "commit.2": ("stream.kafka.producer.LogProducer", "begin", "after"),
    "commit.3": ("stream.kafka.producer.LogProducer", "produce", "after"),
    "commit.3-half": ("stream.kafka.producer.LogProducer", "produce", "half"),
    "commit.4": ("stream.kafka.producer.LogProducer", "flush", "after"),
    "commit.5": ("stream.kafka.producer.LogProducer", "send_offsets", "after"),
    "commit.6-sent": ("stream.kafka.producer.LogProducer", "commit", "during"),
    "commit.6": ("stream.kafka.producer.LogProducer", "commit", "after"),
    "commit.7": ("stream.commit.Committer", "commit", "after"),
    "index.1": ("stream.index.IndexStage", "_check_chains", "after"),
    "index.2": ("stream.neighbours.milvus.index.MilvusIndex", "insert", "after"),
    "index.3": ("stream.index.IndexStage", "_check_steps", "before"),
    "index.4": ("stream.kafka.consumer.GroupConsumer", "commit", "after"),
    "index.open": ("stream.neighbours.milvus.index.MilvusIndex", "delete_links", "after"),
    "index.prove": ("stream.index.IndexStage", "_prove", "after"),
}


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether anything is to be broken."""
    return any(name in environment for name in (BREAK, CRASH, ANSWER))


def apply(environment: Mapping[str, str]) -> None:
    """Break this process as the environment says."""
    if BREAK in environment:
        BREAKS[environment[BREAK]]()
    if CRASH in environment:
        _crash(environment[CRASH], Path(environment[MARK]))
    if ANSWER in environment:
        _lose_answer(environment[ANSWER], Path(environment[MARK]))


def crash_at(step: str, nth: int, mark: Path, how: str = "KILL") -> dict[str, str]:
    """The environment of a worker that ends at a step."""
    assert step in STEPS, step
    return {CRASH: f"{step}@{nth}:{how}", MARK: str(mark)}


def lose_answer(kind: str, nth: int, mark: Path) -> dict[str, str]:
    """The environment of a decider whose n-th commit has no answer: `lost` after it happened, or `never` sent."""
    assert kind in {"lost", "never"}, kind
    return {ANSWER: f"{kind}@{nth}", MARK: str(mark)}


def _lose_answer(wish: str, mark: Path) -> None:
    from confluent_kafka import KafkaError  # noqa: PLC0415 - imported when it is broken, not before

    from stream.kafka.client import translate  # noqa: PLC0415

    kind, _, nth = wish.partition("@")
    seen = 0

    def around(original: Call) -> Call:
        def commit(self: Any) -> None:
            nonlocal seen
            seen += 1
            if seen != int(nth) or kind == "lost":
                original(self)
            if seen == int(nth):
                mark.write_text(kind)
                raise translate(KafkaError(KafkaError._TIMED_OUT), "committing a transaction")

        return commit

    replace("stream.kafka.producer.LogProducer", "commit", around)


def _crash(wish: str, mark: Path) -> None:
    step, _, rest = wish.partition("@")
    nth, _, how = rest.partition(":")
    owner, name, when = STEPS[step]
    number = signal.Signals[f"SIG{how}"]
    seen = 0

    def die() -> None:
        mark.write_text(step)
        os.kill(os.getpid(), number)

    def around(original: Call) -> Call:
        @functools.wraps(original)
        def method(self: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen != int(nth):
                return original(self, *arguments, **named)
            if when == "before":
                die()
            if when == "during":
                threading.Timer(_COMMIT_SENT_S, die).start()
            if when == "half":
                records = list(arguments[0])
                original(self, records[: (len(records) + 1) // 2])
                self.flush()
                die()
            result = original(self, *arguments, **named)
            if when in {"after", "during"}:
                die()
            return result

        return method

    replace(owner, name, around)
