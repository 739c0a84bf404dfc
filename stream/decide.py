"""DECIDE: fingerprints in, verdicts out, exactly once.

    poll -> parse -> search ahead -> is the index still what it was? -> judge in log order -> commit

A batch never outlives a poll: whatever goes wrong, it is thrown away and read again.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Any

from stream.backoff import Backoff
from stream.batcher import fill_wait_s
from stream.commit import Batch, Committer, OutcomeUnknown
from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, DejaviewError, IndexUnavailable, StageStopped, TransientError
from stream.health import Health
from stream.incoming import Intake
from stream.indexview import IndexFellBack, IndexView
from stream.judge import Outcome, Work
from stream.kafka import GroupConsumer, Record
from stream.ledger import remember
from stream.lookup import Lookup
from stream.metrics import Metrics
from stream.observe import observe, uploaded_ms, youngest_s
from stream.ownership import Ownership, Pause

log = logging.getLogger("dejaview.decide")

STAGE = "decide"
IDLE_WAIT_S = 0.1
OPENING_S = 0.2
# How often it is asked whether the index was switched to another collection.
FOLLOW_S = 2.0
# How often the ends of paused partitions are asked for: their lag must be seen to grow.
ASK_ENDS_S = 2.0


class DecideStage:
    """The loop. One thread runs it; `make_committer` starts a producer, also after one has failed."""

    def __init__(
        self,
        settings: Settings,
        consumer: GroupConsumer,
        make_committer: Callable[[], Committer],
        view: IndexView,
        lookup: Lookup,
        ownership: Ownership,
        intake: Intake,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._backfill = settings.topics.backfill
        self._consumer = consumer
        self._make_committer = make_committer
        self._committer: Committer | None = None
        self._view = view
        self._lookup = lookup
        self._ownership = ownership
        self._intake = intake
        self._metrics = metrics
        self._health = health
        # Only a transaction needs the group's metadata, which hold the interpreter for most of a millisecond.
        self._transactional = settings.delivery == "exactly_once"
        self._backoff = Backoff(settings.index.retry_wait_max_s)
        self._fill_wait_s = settings.decide.batch_wait_s
        self._refresh_at_s = 0.0
        self._follow_at_s = 0.0
        self._ask_ends_at_s = 0.0
        self._index_was_away = False
        self._failing = False

    def run(self, stop: Event) -> None:
        """Turn until told to stop.

        Raises:
            StageStopped: going on would break a promise.
        """
        try:
            while not stop.is_set():
                self.turn()
        finally:
            self._health.ended(STAGE)
            self._consumer.close()
            self._lookup.close()
            self._ownership.close()

    def turn(self) -> None:
        """One turn: at most one batch."""
        self._health.beat(STAGE)
        self._turn()
        self._report()

    def _turn(self) -> None:
        settings = self._settings.decide
        # Before the poll: a member that is expelled in between has an empty generation, which fences nothing.
        group_metadata = self._consumer.group_metadata() if self._transactional else None
        records = self._consumer.poll(settings.batch_items_max, IDLE_WAIT_S, self._fill_wait_s)
        self._fill_wait_s = settings.batch_wait_s
        first_offsets = _first_offsets(records)
        try:
            if self._backoff.waiting():
                self._rewind(first_offsets)
                return
            self._ready_to_judge()
            works = self._works(records)
            if works:
                self._judge_and_commit(works, group_metadata)
            if works or not self._failing or self._lag() == 0:
                self._works_again()
        except StageStopped:
            raise
        except DejaviewError as error:
            self._throw_away(error, first_offsets)

    def _ready_to_judge(self) -> None:
        """Everything a batch relies on: a committer, the partitions' judges, the index's progress."""
        if self._committer is None:
            self._committer = self._make_committer()
        # Before the index is asked: it may be away for long, and what is owed was judged while it was there.
        self._ownership.pay()
        if self._index_was_away:
            # A collection that was released or dropped is loaded or made again; its progress tells what it lost.
            self._view.prepare()
            self._index_was_away = False
        now = time.monotonic()
        if now >= self._follow_at_s:
            self._view.follow()
            self._follow_at_s = now + FOLLOW_S
        while self._ownership.open_next() and time.monotonic() < now + OPENING_S:
            """Open what can be opened before the next poll is due."""
        if now >= self._refresh_at_s:
            with self._metrics.timed(STAGE, "progress"):
                self._view.refresh()
            self._refresh_at_s = now + self._settings.decide.progress_interval_s
            self._ownership.resume(Pause.INDEX_AWAY)
            self._ownership.shed()
            self._foreign_over()

    def _works_again(self) -> None:
        """A batch went through, or nothing waits: what failed before is over."""
        self._failing = False
        self._backoff.reset()
        for what in ("index", "broker"):
            self._health.ready(f"{STAGE} {what}")

    def _lag(self) -> int:
        return sum(self._consumer.lag(owned.number, owned.committed) for owned in self._ownership.all)

    def _judge_and_commit(self, works: list[Work], group_metadata: Any) -> None:
        by_partition: dict[int, list[Work]] = defaultdict(list)
        for work in works:
            by_partition[work.partition].append(work)
        for partition, own in by_partition.items():
            self._ownership[partition].judged_to_ms = min(uploaded_ms(w, self._backfill) for w in own)
        self._report_lag()
        pins = {partition: self._view.pin(partition) for partition in by_partition}
        with self._metrics.timed(STAGE, "search"):
            knowledge = self._lookup.read(works, pins)
        if not knowledge.pins_hold:
            with self._metrics.timed(STAGE, "progress"):
                self._view.look_again()
        with self._metrics.timed(STAGE, "judge"):
            judges = {p: self._ownership.judge_of(p) for p in by_partition}
            outcomes = [o for p, own in by_partition.items() for o in judges[p].judge(own, knowledge)]
        offsets = {p: own[-1].offset + 1 for p, own in by_partition.items()}
        with self._metrics.timed(STAGE, "commit"):
            ledger_ends = {p: self._ownership[p].ledger_end for p in offsets}
            batch = Batch(outcomes, offsets, group_metadata, ledger_ends)
            self._committer_now().commit(batch, self._apply)
        if not self._transactional:
            self._ownership.owe(offsets)
        waits_s = self._settings.decide.batch_wait_s, self._settings.decide.batch_wait_late_s
        self._fill_wait_s = fill_wait_s(youngest_s(works, self._backfill), *waits_s)
        for partition, offset in offsets.items():
            self._ownership[partition].committed = offset
            self._ownership[partition].foreign_since_s = None
            # A reference may have been fetched for minutes: the latest upload, not the last.
            newest_ms = max(uploaded_ms(w, self._backfill) for w in by_partition[partition])
            self._ownership[partition].judged_to_ms = newest_ms
        observe(self._metrics, outcomes, self._backfill)

    def _works(self, records: Sequence[Record]) -> list[Work]:
        """Parse; a partition is cut before a fingerprint of another model, and waits there."""
        works: list[Work] = []
        cut: set[int] = set()
        for record in records:
            if record.partition in cut:
                continue
            work = self._intake.work(record)
            if self._intake.is_foreign(work):
                if not self._foreign_waited(record.partition):
                    cut.add(record.partition)
                    self._ownership.rewind({record.partition: record.offset})
                    continue
                work = self._intake.foreign(work)
            works.append(work)
        return works

    def _foreign_waited(self, partition: int) -> bool:
        """Whether this partition has waited long enough for a fingerprint of another model."""
        owned = self._ownership[partition]
        now = time.monotonic()
        if owned.foreign_since_s is None:
            owned.foreign_since_s = now
            log.error(
                "partition %d: the next fingerprint was made by another model; nothing is judged there for %g s "
                "(decide.foreign_model_pause_s). Is ENCODE of another release still running?",
                partition, self._settings.decide.foreign_model_pause_s,
            )  # fmt: skip
        if now - owned.foreign_since_s >= self._settings.decide.foreign_model_pause_s:
            return True
        self._ownership.pause(Pause.FOREIGN_MODEL, [partition])
        return False

    def _foreign_over(self) -> None:
        now = time.monotonic()
        pause_s = self._settings.decide.foreign_model_pause_s
        over = [
            o.number
            for o in self._ownership.all
            if Pause.FOREIGN_MODEL in o.paused and now - (o.foreign_since_s or now) >= pause_s
        ]
        self._ownership.resume(Pause.FOREIGN_MODEL, over)

    def _apply(self, outcome: Outcome, ledger_offset: int) -> None:
        """Step 7: a committed entry enters its partition's window and memory."""
        judge = self._ownership.judge_of(outcome.work.partition)
        self._ownership[outcome.work.partition].ledger_end = ledger_offset + 1
        if outcome.entry is not None:
            remember(outcome.entry, ledger_offset, judge.window, judge.memory)

    def _throw_away(self, error: DejaviewError, first_offsets: Mapping[int, int]) -> None:
        """The batch in hand is read again; what cannot be relied on any more is rebuilt."""
        self._metrics.aborted.labels(type(error).__name__).inc()
        log.warning("batch thrown away: %s", error)
        self._failing = True
        if isinstance(error, OutcomeUnknown):
            self._committer = None
            self._ownership.reopen()
            self._health.unready(f"{STAGE} broker", str(error))
            self._backoff.failed()
            return
        self._rewind(first_offsets)
        if isinstance(error, IndexFellBack):
            self._ownership.reopen(error.partitions)
        elif isinstance(error, TransientError):
            index_away = isinstance(error, IndexUnavailable)
            self._index_was_away |= index_away
            kind = self._metrics.index_errors if index_away else self._metrics.broker_errors
            kind.labels(STAGE).inc()
            self._health.unready(f"{STAGE} {'index' if index_away else 'broker'}", str(error))
            self._ownership.pause(Pause.INDEX_AWAY)
            self._backoff.failed()
        elif not isinstance(error, BatchAborted):
            raise error

    def _rewind(self, first_offsets: Mapping[int, int]) -> None:
        try:
            self._ownership.rewind(first_offsets)
        except DejaviewError as error:
            # Opening seeks, too, and is tried until it succeeds.
            log.warning("partitions are opened anew: %s", error)
            self._ownership.reopen()

    def _committer_now(self) -> Committer:
        if self._committer is None:
            raise BrokerUnavailable("no producer")
        return self._committer

    def _report_lag(self) -> None:
        behind = [o for o in self._ownership.all if self._consumer.lag(o.number, o.committed) > 0]
        self._metrics.lag.labels(STAGE).set(self._lag())
        self._metrics.oldest.labels(STAGE).set(min((o.judged_to_ms for o in behind), default=0) / 1000)

    def _report(self) -> None:
        owned = list(self._ownership.all)
        paused = [o for o in owned if o.paused]
        if paused and time.monotonic() >= self._ask_ends_at_s:
            self._ask_ends_at_s = time.monotonic() + ASK_ENDS_S
            self._consumer.ask_ends(o.number for o in paused)
        self._metrics.paused.labels(STAGE).set(len(paused))
        self._metrics.revived.labels(STAGE).set(self._consumer.revived)
        self._report_lag()
        rows = [len(o.judge.window) for o in owned]
        self._metrics.window_rows.set(sum(rows))
        self._metrics.window_fill.set(max(rows, default=0) / self._settings.decide.window_rows_max)
        self._metrics.memory_entries.set(sum(len(o.judge.memory) for o in owned))
        if not owned:
            self._health.unready(f"{STAGE} partitions", "none assigned yet")
        elif paused:
            reasons = ", ".join(f"{o.number} ({' and '.join(sorted(o.paused))})" for o in paused)
            self._health.unready(f"{STAGE} partitions", f"not read: {reasons}")
        else:
            self._health.ready(f"{STAGE} partitions")


def _first_offsets(records: Sequence[Record]) -> dict[int, int]:
    first: dict[int, int] = {}
    for record in records:
        first.setdefault(record.partition, record.offset)
    return first
