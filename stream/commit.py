"""DECIDE's commit, in numbered steps. `ARCHITECTURE.md` has the same numbers with "what if step n fails".

1. every item of the batch is judged
2. begin
3. produce verdicts, dead letters and ledger entries
4. flush (before the offsets: twice as fast)
5. send the offsets with the group metadata captured when the batch was formed
6. commit
7. entries enter window and memory
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from schemas.cloudevents import dead_letter_headers, verdict_headers
from schemas.events import LedgerEntry, VerdictKind
from stream.config import TopicSettings
from stream.errors import BatchAborted, BrokerUnavailable, DejaviewError, LedgerGap, ProducerBroken, StageStopped
from stream.judge import Outcome
from stream.kafka import UNREACHED_MAX, GroupConsumer, LogProducer, Outgoing

Apply = Callable[[Outcome, int], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """A judged batch: outcomes in log order, offsets to commit by partition, and who judged it.

    `ledger_ends`: by partition the end of the ledger that the judge knows; what is written comes after it.
    """

    outcomes: Sequence[Outcome]
    offsets: Mapping[int, int]
    group_metadata: Any
    ledger_ends: Mapping[int, int]


class OutcomeUnknown(DejaviewError):
    """Nobody knows whether the batch was committed; the ledger does: restore from it."""


class Committer:
    """Publishes judged batches, exactly once or at least once."""

    def __init__(
        self,
        topics: TopicSettings,
        delivery: Literal["exactly_once", "at_least_once"],
        producer: LogProducer,
        consumer: GroupConsumer,
    ) -> None:
        self._topics = topics
        self._delivery = delivery
        self._producer = producer
        self._consumer = consumer
        self._unreached = 0

    def commit(self, batch: Batch, apply: Apply) -> None:
        """Steps 2 to 7.

        Args:
            batch: step 1's result.
            apply: step 7, called with each outcome and its ledger offset.

        Raises:
            BatchAborted: nothing of it is visible; judge it again.
            OutcomeUnknown: a commit without an answer.
            BrokerUnavailable, StageStopped: nothing of it is visible (exactly_once), or the ledger
                knows what is (at_least_once).
        """
        publish = self._exactly_once if self._delivery == "exactly_once" else self._at_least_once
        ledger = publish(batch)
        for outcome, record in ledger:
            apply(outcome, record.offset)

    def _exactly_once(self, batch: Batch) -> list[tuple[Outcome, Outgoing]]:
        events, ledger = self._records(batch)
        sent = False

        def end() -> None:
            nonlocal sent
            self._producer.send_offsets(
                self._topics.fingerprints, batch.offsets, batch.group_metadata, self._consumer.topic_id
            )
            sent = True
            self._producer.commit()

        try:
            self._producer.begin()
        except DejaviewError as error:
            # No transaction can be begun any more: this producer is fenced or broken.
            raise OutcomeUnknown(str(error)) from error
        try:
            self._producer.produce([*events, *(record for _, record in ledger)])
            self._producer.flush()
            _check_ledger(ledger, batch.ledger_ends)
            self._producer.guarded(end)
        except DejaviewError as error:
            if isinstance(error, ProducerBroken) or (sent and not isinstance(error, BatchAborted)):
                # A broken one cannot even abort: a new producer of the same name settles what is open.
                raise OutcomeUnknown(str(error)) from error
            if isinstance(error, StageStopped):
                # What stops the stage matters more than whether the abort goes through: the broker times it out.
                with suppress(DejaviewError):
                    self._producer.abort()
                raise
            # A producer may have lost all brokers, and an abort of a transaction that reached none succeeds.
            self._unreached += isinstance(error, BrokerUnavailable)
            if self._unreached == UNREACHED_MAX:
                # What it still holds would keep it alive.
                with suppress(DejaviewError):
                    self._producer.purge()
                raise OutcomeUnknown(str(error)) from error
            self._abort()
            raise
        self._unreached = 0
        return ledger

    def _at_least_once(self, batch: Batch) -> list[tuple[Outcome, Outgoing]]:
        """Verdicts first, then the ledger: what it knows was published, and is not judged again.

        Offsets follow when there is time for a round trip (`Ownership.pay`).
        """
        events, ledger = self._records(batch)
        try:
            self._producer.produce(events)
            self._producer.flush()
            self._producer.produce([record for _, record in ledger])
            self._producer.flush()
            _check_ledger(ledger, batch.ledger_ends)
        except StageStopped:
            self._producer.purge()
            raise
        except DejaviewError as error:
            self._producer.purge()
            raise OutcomeUnknown(str(error)) from error
        return ledger

    def _abort(self) -> None:
        try:
            self._producer.abort()
        except DejaviewError as error:
            raise OutcomeUnknown(str(error)) from error

    def _records(self, batch: Batch) -> tuple[list[Outgoing], list[tuple[Outcome, Outgoing]]]:
        events: list[Outgoing] = []
        ledger: list[tuple[Outcome, Outgoing]] = []
        for outcome in batch.outcomes:
            if outcome.entry is None:
                continue
            events.append(event_record(outcome.entry, self._topics))
            ledger.append((outcome, ledger_record(outcome.entry, outcome.work.partition, self._topics)))
        return events, ledger


def _check_ledger(ledger: Sequence[tuple[Outcome, Outgoing]], ends: Mapping[int, int]) -> None:
    """A ledger that was created anew begins again at 0: its entries would lie below what the index is known to hold.

    Raises:
        LedgerGap: it was. BatchAborted: the broker gave no offset.
    """
    for _, record in ledger:
        if record.offset < 0:
            raise BatchAborted(f"an entry of ledger partition {record.partition} was acknowledged without an offset")
        if record.offset < ends[record.partition]:
            raise LedgerGap(
                f"ledger partition {record.partition} was known up to offset {ends[record.partition]} and has given "
                f"{record.offset} to a new entry: the topic was created anew. Restore it, or set `index.collection` to "
                "a new name and send the uploads again."
            )


def event_record(entry: LedgerEntry, topics: TopicSettings) -> Outgoing:
    """The verdict event or the dead letter of a ledger entry. Those of a backfill lie apart: nobody waits for them."""
    backfilled = entry.source_topic == topics.backfill
    if entry.verdict is not None:
        topic = {
            VerdictKind.UNIQUE: topics.unique,
            VerdictKind.DUPLICATE: topics.duplicate,
            VerdictKind.REVIEW: topics.review,
        }[entry.verdict.verdict]
        topic = topics.backfilled if backfilled else topic
        headers = verdict_headers(entry.verdict, entry.source.key, entry.traceparent)
        return Outgoing(topic, entry.verdict.model_dump_json().encode(), headers, key=entry.verdict.upload_id.encode())
    if entry.dead_letter is None:
        raise ValueError("a ledger entry holds a verdict or a dead letter")
    headers = dead_letter_headers(entry.dead_letter, entry.traceparent)
    topic = topics.backfilled if backfilled else topics.deadletters
    return Outgoing(topic, entry.dead_letter.model_dump_json().encode(), headers)


def ledger_record(entry: LedgerEntry, partition: int, topics: TopicSettings) -> Outgoing:
    """The ledger record of an entry, in its tenant's partition."""
    return Outgoing(topics.ledger, entry.model_dump_json(exclude_none=True).encode(), partition=partition)
