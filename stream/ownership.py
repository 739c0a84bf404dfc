"""The partitions DECIDE owns. Each is opened (its judge rebuilt from the ledger) before it is read.

A partition is read only while nothing speaks against it; what does is kept as a set of reasons.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from stream.config import DecideSettings
from stream.decision import Rule
from stream.errors import BatchAborted, DejaviewError, OffsetLost
from stream.indexview import IndexView
from stream.judge import Judge
from stream.kafka import GroupConsumer, LogReader
from stream.ledger import Restore, check_progress
from stream.memory import Memory
from stream.window import Window

log = logging.getLogger("dejaview.decide")

RESTORE_SLICE_S = 0.05
# How often offsets are committed outside of transactions.
PAY_EVERY_S = 0.2


class Pause(StrEnum):
    """Why an owned partition is not read."""

    OPENING = "opening"
    INDEX_AWAY = "index away"
    WINDOW_FULL = "window full"
    FOREIGN_MODEL = "foreign model"


@dataclass(slots=True)
class Owned:
    """One owned partition; `judge` counts once the partition is open."""

    number: int
    judge: Judge
    paused: set[Pause] = field(default_factory=lambda: {Pause.OPENING})
    running: bool = False
    restore: Restore | None = None
    committed: int = 0
    ledger_end: int = 0
    # What is not judged was uploaded after this, as far as is known; at first, when the partition was taken over.
    judged_to_ms: float = field(default_factory=lambda: time.time() * 1000)
    retry_at_s: float = 0.0
    foreign_since_s: float | None = None


class Ownership:
    """Owned partitions by number. Implements `kafka.Assignment`."""

    def __init__(
        self,
        settings: DecideSettings,
        view: IndexView,
        reader: LogReader,
        rule_of: Callable[[str], Rule],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._view = view
        self._reader = reader
        self._rule_of = rule_of
        self._clock = clock
        self._owned: dict[int, Owned] = {}
        self._owed: dict[int, int] = {}
        self._pay_at_s = 0.0
        self._consumer: GroupConsumer | None = None

    def use(self, consumer: GroupConsumer) -> None:
        """The consumer whose partitions these are."""
        self._consumer = consumer

    # -- called by the group consumer

    def assigned(self, partitions: Sequence[int]) -> None:
        log.info("assigned fingerprints partitions %s", sorted(partitions))
        for number in partitions:
            self._owned[number] = self._new(number)

    def revoked(self, partitions: Sequence[int]) -> None:
        """A batch is never in hand while the group is polled: no more than owed offsets is left to commit."""
        try:
            self._pay(partitions)
        except DejaviewError as error:
            log.warning("not committed at revocation, the ledger knows what was judged: %s", error)
        self._forget(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self._forget(partitions)

    # -- called by the loop

    @property
    def all(self) -> Collection[Owned]:
        return self._owned.values()

    def __getitem__(self, number: int) -> Owned:
        return self._owned[number]

    def close(self) -> None:
        """Let go of the reader."""
        self._reader.close()

    def judge_of(self, number: int) -> Judge:
        return self._owned[number].judge

    def open_next(self) -> bool:
        """One small step towards reading the partitions that are not open yet; True while more can be done.

        Raises:
            TransientError: ask again. LedgerGap, PartitionCountChanged: the index is not this ledger's.
        """
        now = self._clock()
        waiting = [o for o in self._owned.values() if Pause.OPENING in o.paused and o.retry_at_s <= now]
        # The ledger is read for one partition at a time: go on with the one that was begun.
        waiting.sort(key=lambda o: o.restore is None)
        if not waiting:
            return False
        first = waiting[0]
        if first.restore is None and not self._begin(first):
            first.retry_at_s = now + self._settings.progress_interval_s
            return True
        if first.restore is not None and first.restore.step(RESTORE_SLICE_S):
            self._opened(first)
        return True

    def reopen(self, partitions: Sequence[int] | None = None) -> None:
        """Forget what is known of these partitions (all, if None) and rebuild it from the ledger."""
        for number in list(self._owned) if partitions is None else partitions:
            if number in self._owned:
                self._view.close(number)
                old, new = self._owned[number], self._new(number)
                new.running, new.foreign_since_s = old.running, old.foreign_since_s
                self._owned[number] = new
        self._sync()

    def rewind(self, first_offsets: Mapping[int, int]) -> None:
        """Read again from these offsets: their batch was thrown away."""
        for number, offset in first_offsets.items():
            if number in self._owned:
                self._its_consumer.seek(number, offset)

    def owe(self, offsets: Mapping[int, int]) -> None:
        """Offsets that are judged and published, to be committed outside of a transaction."""
        self._owed.update(offsets)

    def pay(self) -> None:
        """Commit what is owed, now and then: a round trip; a crash before it repeats what the ledger knows.

        Raises:
            BrokerUnavailable: not known whether it happened; still owed.
        """
        if not self._owed or self._clock() < self._pay_at_s:
            return
        self._pay_at_s = self._clock() + PAY_EVERY_S
        try:
            self._pay(list(self._owed))
        except BatchAborted as error:
            # The group is about to give partitions away; those that stay are paid for later.
            log.info("offsets are committed later: %s", error)

    def pause(self, reason: Pause, partitions: Sequence[int] | None = None) -> None:
        for number in list(self._owned) if partitions is None else partitions:
            self._owned[number].paused.add(reason)
        self._sync()

    def resume(self, reason: Pause, partitions: Sequence[int] | None = None) -> None:
        for number in list(self._owned) if partitions is None else partitions:
            self._owned[number].paused.discard(reason)
        self._sync()

    def shed(self) -> None:
        """Drop window rows that every search to come sees in the index; pause the partitions whose window is full."""
        for owned in self._owned.values():
            if Pause.OPENING in owned.paused:
                continue
            owned.judge.window.drop_below(self._view.pin(owned.number).offset)
            if owned.judge.window.room < self._settings.batch_items_max:
                owned.paused.add(Pause.WINDOW_FULL)
            else:
                owned.paused.discard(Pause.WINDOW_FULL)
        self._sync()

    # -- inside

    @property
    def _its_consumer(self) -> GroupConsumer:
        if self._consumer is None:
            raise RuntimeError("Ownership.use was not called")
        return self._consumer

    def _new(self, number: int) -> Owned:
        window = Window(self._settings.window_rows_max)
        return Owned(number, Judge(window, Memory(self._settings.memory_entries_max), self._rule_of))

    def _pay(self, partitions: Sequence[int]) -> None:
        due = {number: self._owed[number] for number in partitions if number in self._owed}
        self._its_consumer.commit(due)
        for number in due:
            del self._owed[number]

    def _forget(self, partitions: Sequence[int]) -> None:
        log.info("gave up fingerprints partitions %s", sorted(partitions))
        for number in partitions:
            self._owned.pop(number, None)
            self._owed.pop(number, None)
            self._view.close(number)

    def _begin(self, owned: Owned) -> bool:
        """Find out what to read; False while INDEX is too far behind for the window.

        The order matters: the committed offset is stable only when no transaction of an earlier
        owner is open, and only then does the high watermark hold all that it wrote.
        """
        committed = self._its_consumer.committed(owned.number)
        progress = self._view.open(owned.number)
        low, high = self._reader.ends(owned.number)
        if committed is None and high > low:
            raise OffsetLost(
                f"fingerprints partition {owned.number} has no committed offset and its ledger is not empty: the "
                "group's offsets expired, or `kafka.group_prefix` was changed. Set the group's offsets "
                "(kafka-consumer-groups --reset-offsets) to say where to go on."
            )
        owned.committed = self._its_consumer.start_offset(owned.number, "earliest")
        check_progress(progress, low, high)
        owned.ledger_end = high
        window_start = progress.offset if progress is not None else 0
        if high - window_start > self._settings.window_rows_max:
            log.warning(
                "partition %d waits: INDEX is %d ledger records behind, the window holds %d (decide.window_rows_max)",
                owned.number, high - window_start, self._settings.window_rows_max,
            )  # fmt: skip
            return False
        # With one record a transaction every second offset is a marker.
        start = max(low, min(window_start, high - 2 * self._settings.memory_entries_max))
        window, memory = owned.judge.window, owned.judge.memory
        owned.restore = Restore(self._reader, owned.number, start, high, window_start, window, memory)
        return True

    def _opened(self, owned: Owned) -> None:
        self._its_consumer.seek(owned.number, owned.committed)
        owned.restore = None
        owned.paused.discard(Pause.OPENING)
        self._sync()
        judge = owned.judge
        log.info(
            "partition %d is open at offset %d: %d window rows, %d entries remembered",
            owned.number, owned.committed, len(judge.window), len(judge.memory),
        )  # fmt: skip

    def _sync(self) -> None:
        """Tell the consumer what has changed."""
        changed = [o for o in self._owned.values() if o.running != (not o.paused)]
        for owned in changed:
            owned.running = not owned.paused
            tell = self._its_consumer.resume if owned.running else self._its_consumer.pause
            tell([owned.number])
