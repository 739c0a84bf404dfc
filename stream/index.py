"""INDEX: ledger in, rows and links in the index out.

    poll -> 1 does the index still hold what it held? -> 2 insert rows -> 3 append links -> 4 commit offsets (display)

`ARCHITECTURE.md` has the same numbers with "what if step n fails". Where the stage goes on is the chain's end in the
index itself. What a crash repeats is inserted again under the same row id, which readers join.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from threading import Event

from stream.backoff import Backoff
from stream.config import Settings
from stream.errors import BatchAborted, DejaviewError, IndexUnavailable, StageStopped, TransientError
from stream.health import Health
from stream.indexrows import rows_of
from stream.indexview import check_links
from stream.kafka import GroupConsumer, LogReader, Record
from stream.ledger import check_progress
from stream.metrics import Metrics
from stream.neighbours.protocol import STRONG, Index, Link, Row
from stream.progress import chain_end, end_since, needless, sort_links, strays, unproven

log = logging.getLogger("dejaview.index")

STAGE = "index"
IDLE_WAIT_S = 0.1
MARKERS_LEFT_MAX = 100
# Whole chains are read before one write in so many, the links since the last one before the others. What an emptying
# or another owner may leave in between must be far less than `progress.CHAIN_LINKS_KEPT`, or it would pass for a chain.
WHOLE_EVERY = 10
# How often it is asked whether the index was switched to another collection.
FOLLOW_S = 2.0
# An index that is emptied or put back takes longer: only a link that came later than this may have lost its rows.
LATE_LINK_S = 1.0
# A search that guarantees it waits for nothing: the first link of a chain vouches for no row.
EARLIEST_TIMESTAMP = 1 << 18


class IndexStage:
    """The loop. One thread runs it; implements `kafka.Assignment`."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        reader: LogReader,
        ledger_topic_id: str,
        partitions: int,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._index = index
        self._reader = reader
        self._ledger_topic_id = ledger_topic_id
        self._partitions = partitions
        self._metrics = metrics
        self._health = health
        self._backoff = Backoff(settings.index.retry_wait_max_s)
        self._unopened: set[int] = set()
        # Per open partition the link that its chain ends with: the next one begins where that ends.
        self._last: dict[int, Link] = {}
        self._timestamp: dict[int, int] = {}
        self._acknowledged = EARLIEST_TIMESTAMP
        # Set at the start and after every failure: rows may be there without their link, those of links that were taken
        # back among them, which reached so far.
        self._unsure = True
        self._taken_back: dict[int, int] = {}
        self._writes = 0
        self._check_at_s = 0.0
        self._follow_at_s = 0.0

    def assigned(self, partitions: Sequence[int]) -> None:
        log.info("assigned ledger partitions %s", sorted(partitions))
        self._unopened.update(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._unopened.discard(partition)
            self._last.pop(partition, None)

    def lost(self, partitions: Sequence[int]) -> None:
        self.revoked(partitions)

    def run(self, consumer: GroupConsumer, stop: Event) -> None:
        """Turn until told to stop.

        Raises:
            StageStopped: going on would break a promise.
        """
        try:
            while not stop.is_set():
                self.turn(consumer)
        finally:
            self._health.ended(STAGE)
            consumer.close()
            self._reader.close()

    def turn(self, consumer: GroupConsumer) -> None:
        """One turn: at most one batch."""
        self._health.beat(STAGE)
        settings = self._settings.ledger_index
        records = consumer.poll(settings.batch_items_max, IDLE_WAIT_S, settings.batch_wait_s)
        if self._backoff.waiting():
            return
        try:
            self._follow()
            self._open(consumer)
            if records:
                self._write(consumer, records)
            elif time.monotonic() >= self._check_at_s:
                # DECIDE may be waiting for what an emptied index lost; no new record would tell.
                self._check_chains(self._last, whole=True)
                self._link_past_markers(consumer)
            self._backoff.reset()
            self._health.ready(f"{STAGE} index")
        except StageStopped:
            raise
        except DejaviewError as error:
            self._start_over(consumer, error)
        self._report(consumer)

    def _follow(self) -> None:
        """Go where the index is, if it was switched to another collection.

        Raises:
            BatchAborted: it was; begin again at the end of that one's chain.
        """
        if time.monotonic() < self._follow_at_s:
            return
        if (current := self._index.current()) != self._index.collection:
            self._index.prepare()
            raise BatchAborted(f"the index was switched: collection {current} is written from now on")
        self._follow_at_s = time.monotonic() + FOLLOW_S

    def _open(self, consumer: GroupConsumer) -> None:
        """Find the chain's end, clear what lies beyond it, prove the path with a link, and read on from there."""
        if not self._unopened:
            return
        if self._unsure:
            self._index.prepare()
        links = self._index.links(None, None, STRONG)
        last: dict[int, Link] = {}
        for partition in sorted(self._unopened):
            found = sort_links(links, self._ledger_topic_id, partition, self._partitions)
            check_links(found.other_ledgers, found.other_counts, self._ledger_topic_id, self._partitions)
            check_progress(chain_end(found.own), *self._reader.ends(partition))
            first = unproven(found.own)
            own = [link for link in found.own if link not in first]
            gone = [*first, *strays(own)]
            self._index.delete_links(gone)
            self._taken_back[partition] = max((link.end for link in gone), default=0)
            progress = chain_end(own)
            self._timestamp[partition] = progress.timestamp if progress is not None else EARLIEST_TIMESTAMP
            last[partition] = progress.last if progress is not None else self._link(partition, 0, 0)
        self._prove([self._link(partition, link.end, link.end) for partition, link in last.items()])
        for partition, link in last.items():
            consumer.start_offset(partition, "earliest")
            consumer.seek(partition, link.end)
            self._last[partition] = link
            self._unopened.discard(partition)
            consumer.resume([partition])

    def _prove(self, links: Sequence[Link]) -> None:
        """The canary: links written and found through the real path."""
        self._acknowledged = self._index.append_links(links)
        since = {link.ledger_partition: link.start for link in links}
        found = self._index.links(self._ledger_topic_id, since, self._acknowledged)
        lost = [link.link_id for link in links if link not in found]
        if lost:
            raise IndexUnavailable(f"acknowledged by the index and not found in it: {', '.join(lost)}")

    def _write(self, consumer: GroupConsumer, records: Sequence[Record]) -> None:
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            if record.partition in self._last:
                by_partition[record.partition].append(record)
        if not by_partition:
            return
        begun = time.monotonic()
        with self._metrics.timed(STAGE, "check"):
            self._check_chains(by_partition, whole=self._writes % WHOLE_EVERY == 0)
        self._writes += 1
        all_rows = rows_of([record for own in by_partition.values() for record in own])
        rows = self._new_rows(all_rows)
        with self._metrics.timed(STAGE, "insert"):
            acknowledged = self._index.insert(rows) if rows else self._stamp(by_partition)
        ends = {partition: own[-1].offset + 1 for partition, own in by_partition.items()}
        with self._metrics.timed(STAGE, "link"):
            if acknowledged is not None:
                self._timestamp.update(dict.fromkeys(ends, acknowledged))
            links = [self._link(partition, self._last[partition].end, end) for partition, end in ends.items()]
            self._acknowledged = self._index.append_links(links)
            self._check_steps(links, all_rows, begun)
            self._stand_at(links)
        # What begins at 0 may have been gone before (`unproven`), and the rows of the step behind it, too.
        behind = any(last.end < self._taken_back[partition] for partition, last in self._last.items())
        self._unsure = behind or any(link.start == 0 for link in links)
        self._metrics.events.labels(STAGE).inc(len(records))
        self._metrics.batch.labels(STAGE).observe(len(records))
        self._metrics.indexed.inc(len(rows))
        consumer.commit(ends)

    def _new_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows to insert. After a failure those that are there already are left out: repeats never pile up."""
        if not self._unsure or not rows:
            return rows
        there = self._index.get([row.row_id for row in rows], STRONG)
        return [row for row in rows if row.row_id not in there]

    def _stamp(self, partitions: Iterable[int]) -> int | None:
        """After a failure rows may have been there already: a timestamp that is later than theirs."""
        if not self._unsure:
            return None
        partition = next(iter(partitions))
        end = self._last[partition].end
        return self._index.append_links([self._link(partition, end, end)])

    def _check_steps(self, links: Sequence[Link], rows: Sequence[Row], begun: float) -> None:
        """Make sure that the rows were not emptied away, or put back to before them, until the links came.

        A chain that begins at 0 looks whole whatever it lost. Elsewhere that takes time, or a process that slept.

        Raises:
            BatchAborted: they were; all links are taken back.
        """
        late = time.monotonic() - begun >= LATE_LINK_S
        last_rows = {row.ledger_partition: row.row_id for row in rows}
        doubted = {
            last_rows[link.ledger_partition]: link
            for link in links
            if link.ledger_partition in last_rows and (late or link.start == 0)
        }
        found = self._index.get(list(doubted), self._acknowledged) if doubted else {}
        lost = [link for row_id, link in doubted.items() if row_id not in found]
        if lost:
            self._index.delete_links(links)
            names = ", ".join(link.link_id for link in lost)
            raise BatchAborted(f"the rows of {names} are gone from the index: it was emptied meanwhile")

    def _check_chains(self, partitions: Collection[int], *, whole: bool) -> None:
        """Before every write, and now and then when idle: an emptied or restored index must not look whole again.

        Args:
            whole: read whole chains, and delete what is needless of them; else only the last links and what came after.

        Raises:
            BatchAborted: a chain does not end where this stage left it: begin again at its end.
        """
        self._check_at_s = time.monotonic() + self._settings.ledger_index.check_interval_s
        since = None if whole else {partition: self._last[partition].start for partition in partitions}
        links = self._index.links(self._ledger_topic_id, since, self._acknowledged)
        for partition in partitions:
            own = [link for link in links if link.ledger_partition == partition]
            last = self._last[partition]
            if whole:
                progress = chain_end(own)
                found = progress.offset if progress is not None else None
            else:
                found = end_since(last, own)
            if found != last.end:
                raise BatchAborted(
                    f"the index shows ledger partition {partition} up to {'nothing' if found is None else found}, it "
                    f"was written up to {last.end}: it was emptied, restored or written by another; going on from there"
                )
            old = needless(own) if whole else []
            if len(old) > self._settings.ledger_index.links_deleted_at_once:
                self._index.delete_links(old)

    def _link_past_markers(self, consumer: GroupConsumer) -> None:
        """Markers and aborted records hold nothing to index: DECIDE need not wait for them."""
        ends = {partition: consumer.end(partition) for partition in self._last}
        far = [
            self._link(partition, last.end, ends[partition])
            for partition, last in self._last.items()
            if ends[partition] - last.end > MARKERS_LEFT_MAX
        ]
        if far:
            self._acknowledged = self._index.append_links(far)
            self._stand_at(far)

    def _start_over(self, consumer: GroupConsumer, error: DejaviewError) -> None:
        """Whatever failed, the index itself says where to go on."""
        log.warning("index stage begins again: %s", error)
        if isinstance(error, TransientError):
            self._metrics.index_errors.labels(STAGE).inc()
            self._health.unready(f"{STAGE} index", str(error))
            self._backoff.failed()
        self._unsure = True
        partitions = list(self._last)
        consumer.pause(partitions)
        self._unopened.update(partitions)
        self._last.clear()

    def _stand_at(self, links: Iterable[Link]) -> None:
        self._last.update({link.ledger_partition: link for link in links})

    def _link(self, partition: int, start: int, end: int) -> Link:
        timestamp = self._timestamp[partition]
        return Link(self._ledger_topic_id, partition, self._partitions, start, end, timestamp)

    def _report(self, consumer: GroupConsumer) -> None:
        lag = sum(consumer.lag(partition, last.end) for partition, last in self._last.items())
        self._metrics.index_lag.set(lag)
        self._metrics.lag.labels(STAGE).set(lag)
        self._metrics.revived.labels(STAGE).set(consumer.revived)
        if self._unopened or not self._last:
            self._health.unready(f"{STAGE} partitions", f"open {sorted(self._last)}, waiting {sorted(self._unopened)}")
        else:
            self._health.ready(f"{STAGE} partitions")
