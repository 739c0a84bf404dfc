"""A batch is committed only where the ledger goes on behind what its judge knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from stream.commit import Batch, Committer, OutcomeUnknown
from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, DejaviewError, LedgerGap
from stream.judge import Judge, Knowledge, Outcome
from stream.kafka import Outgoing
from stream.memory import Memory
from stream.window import Window
from tests.support.made import fingerprint, random_vector, rule_of, work

TOPICS = Settings().topics


class Broker:
    """Stands for producer and consumer: gives ledger offsets from `ledger_end` on and notes what is asked of it."""

    topic_id = "fingerprints-1"

    def __init__(self, ledger_end: int) -> None:
        self._next = ledger_end
        self.did: list[str] = []
        self.metadata: Any = None
        self.commit_fails: DejaviewError | None = None
        self.flush_fails: DejaviewError | None = None

    def begin(self) -> None:
        self.did.append("begin")

    def produce(self, records: Iterable[Outgoing]) -> None:
        for record in records:
            if record.topic == TOPICS.ledger:
                record.offset, self._next = self._next, self._next + (self._next >= 0)

    def flush(self) -> None:
        self.did.append("flush")
        if self.flush_fails is not None:
            raise self.flush_fails

    def send_offsets(self, _topic: str, _offsets: Mapping[int, int], metadata: Any, topic_id: str) -> None:
        self.metadata = metadata
        self.did.append(f"offsets of {topic_id}")

    def guarded(self, calls: Callable[[], object]) -> None:
        calls()

    def commit(self, _offsets: object = None) -> None:
        self.did.append("commit")
        if self.commit_fails is not None:
            raise self.commit_fails

    def abort(self) -> None:
        self.did.append("abort")

    def purge(self) -> None:
        self.did.append("purge")


def commit(
    delivery: Literal["exactly_once", "at_least_once"],
    ledger_end: int,
    *,
    commit_fails: DejaviewError | None = None,
) -> tuple[Broker, list[int]]:
    """Commit a batch of three over a ledger known up to 7; the broker goes on at `ledger_end`."""
    judge = Judge(Window(100), Memory(100), rule_of)
    outcomes = judge.judge([work(fingerprint(n, random_vector(n))) for n in range(3)], Knowledge())
    broker = Broker(ledger_end)
    broker.commit_fails = commit_fails
    applied: list[int] = []

    def apply(_outcome: Outcome, offset: int) -> None:
        applied.append(offset)

    committer = Committer(TOPICS, delivery, broker, broker)  # type: ignore[arg-type]
    try:
        committer.commit(Batch(outcomes, {0: 3}, SimpleNamespace(), {0: 7}), apply)
    except Exception as error:
        error.__notes__ = [*broker.did, *map(str, applied)]
        raise
    return broker, applied


def test_entries_behind_the_known_end_are_committed() -> None:
    """The usual case, a marker between included. Break: compare with `<=`."""
    broker, applied = commit("exactly_once", 7)
    assert broker.did == ["begin", "flush", "offsets of fingerprints-1", "commit"]
    assert applied == [7, 8, 9]
    assert commit("at_least_once", 8)[1] == [8, 9, 10]


def test_a_ledger_that_begins_again_is_not_written_to() -> None:
    """R3: rows of a ledger that was created anew would lie below what the index is known to hold, and leave the window
    at once. Break: `any-ledger-offset`.
    """
    with pytest.raises(LedgerGap, match="created anew") as raised:
        commit("exactly_once", 0)
    assert raised.value.__notes__ == ["begin", "flush", "abort"]
    with pytest.raises(LedgerGap) as raised:
        commit("at_least_once", 0)
    assert raised.value.__notes__ == ["flush", "flush", "purge"]


def test_a_commit_without_an_answer_is_not_aborted() -> None:
    """Nobody knows what became of it; an abort told is one. Break: set `sent` behind the commit."""
    with pytest.raises(OutcomeUnknown) as raised:
        commit("exactly_once", 7, commit_fails=BrokerUnavailable("no answer"))
    assert raised.value.__notes__[-1] == "commit"
    with pytest.raises(BatchAborted) as aborted:
        commit("exactly_once", 7, commit_fails=BatchAborted("fenced"))
    assert aborted.value.__notes__[-2:] == ["commit", "abort"]


def test_a_producer_that_reaches_no_broker_is_not_kept() -> None:
    """Its aborts succeed when no broker has seen the transaction. Break: abort whatever the number of failures."""
    broker = Broker(7)
    broker.flush_fails = BrokerUnavailable("not acknowledged")
    committer = Committer(TOPICS, "exactly_once", broker, broker)  # type: ignore[arg-type]

    def tried() -> None:
        committer.commit(Batch([], {0: 3}, SimpleNamespace(), {0: 7}), lambda *_: None)

    with pytest.raises(BrokerUnavailable):
        tried()
    broker.flush_fails = None
    tried()
    broker.flush_fails = BrokerUnavailable("not acknowledged")
    with pytest.raises(BrokerUnavailable):
        tried()
    with pytest.raises(OutcomeUnknown):
        tried()
    assert broker.did.count("abort") == 2


def test_an_entry_without_an_offset_is_judged_again() -> None:
    """A window row needs its place in the ledger. Break: read a missing offset as 0."""
    with pytest.raises(BatchAborted, match="without an offset"):
        commit("exactly_once", -1)
    with pytest.raises(OutcomeUnknown):
        commit("at_least_once", -1)
