"""INDEX itself, run into a collection beside the one in use."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.cli.errors import CommandError
from stream.config import Settings
from stream.errors import BrokerUnavailable, IndexUnavailable
from stream.kafka import Admin, LogReader
from stream.neighbours.milvus.copies import settings_of
from stream.neighbours.milvus.index import MilvusIndex
from stream.neighbours.protocol import STRONG, Index
from stream.progress import chain_end
from stream.service import Service, Stage

log = logging.getLogger("dejaview.reindex")

LOOK_S = 1.0
# A copy that has all that the ledger held so long ago is good to be compared. INDEX brings what comes after.
CAUGHT_UP_S = 10.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an index is: ledger offsets of all partitions that it has, and that there are.

    `ends` and `timestamp` are its own: rows below `ends` are seen by a read that guarantees `timestamp`.
    """

    done: int
    total: int
    ends: dict[int, int]
    timestamp: int | None


def building(settings: Settings, copy: int) -> Settings:
    """The settings of the stage that builds a copy: a deployment of its own over the same ledger.

    Its consumer group is PREFIX-reindex-index, so that two builders share the work and no worker's partitions move.
    """
    return settings.model_copy(
        update={
            "index": settings_of(settings.index, copy),
            "kafka": settings.kafka.model_copy(update={"group_prefix": f"{settings.kafka.group_prefix}-reindex"}),
            "health": settings.health.model_copy(update={"port": 0}),
        }
    )


def reach(index: Index, ledger_topic_id: str, ends: dict[int, tuple[int, int]]) -> Reach:
    """What an index's chains say; nothing where it is not there yet."""
    try:
        links = index.links(ledger_topic_id, None, STRONG)
    except IndexUnavailable:
        links = []
    chains = {p: chain_end(link for link in links if link.ledger_partition == p) for p in ends}
    own = {p: min(ends[p][1], chain.offset) if chain else 0 for p, chain in chains.items()}
    return Reach(
        done=sum(own.values()),
        total=sum(high for _, high in ends.values()),
        ends=own,
        timestamp=max((chain.timestamp for chain in chains.values() if chain), default=STRONG),
    )


def lacks(reader: LogReader, own: Mapping[int, int], ends: Mapping[int, int], timeout_s: float) -> bool:
    """Whether a committed record lies at `own` of a partition or after it, and below its end.

    INDEX leaves up to a hundred markers and aborted records of each unlinked: only reading tells.

    Raises:
        BrokerUnavailable: a partition was not read in time.
    """
    behind = [partition for partition in ends if own[partition] < ends[partition]]
    # The one that is hours behind first: reading to an end takes a tenth of a second, and there may be a hundred.
    behind.sort(key=lambda partition: own[partition] - ends[partition])
    return any(_has_record(reader, partition, own[partition], ends[partition], timeout_s) for partition in behind)


def _has_record(reader: LogReader, partition: int, first: int, end: int, timeout_s: float) -> bool:
    reader.start(partition, first)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        records, at_end = reader.read(1, 0.2)
        if records and records[0].offset >= first:
            return records[0].offset < end
        if at_end is not None:
            return False
    raise BrokerUnavailable(f"ledger partition {partition} was not read on from {first} in {timeout_s:g} s")


class Builder:
    """Runs INDEX over the whole ledger into one copy. Resumes where that copy's chain ends."""

    def __init__(self, settings: Settings, copy: int) -> None:
        """Check topics and settings.

        Raises:
            SettingError, TopicMissing, NotPermitted, BrokerUnavailable: with what to do.
        """
        self.settings = building(settings, copy)
        self.service = Service(self.settings, [Stage.INDEX])
        self.index = MilvusIndex(self.settings.index, self.service.model.model_id)
        self._admin = Admin(settings)
        self._timeout_s = settings.kafka.request_timeout_s
        self._ledger = settings.topics.ledger
        self._topic = self._admin.topics([self._ledger])[self._ledger]

    def reach(self, index: Index | None = None) -> Reach:
        """How far a copy is, this one if none is named."""
        return reach(index or self.index, self._topic.topic_id, self._ends())

    def build(self) -> Iterator[Reach]:
        """Run until the copy has all that the ledger held moments ago; yields once a second.

        Raises:
            What ends the stage; CommandError: it was told to stop; BrokerUnavailable: the ledger's ends are not known.
        """
        reader = LogReader(self.settings, self._ledger)
        self.service.start()
        try:
            since_s, held = time.monotonic(), self._ends()
            while not self.service.stop.wait(LOOK_S):
                looked_s, found = time.monotonic(), self.reach()
                yield found
                if self.service.health.missing() or self._lacks(reader, found.ends, held):
                    continue
                if looked_s - since_s <= CAUGHT_UP_S:
                    return
                since_s, held = time.monotonic(), self._ends()
            raise self.service.failure or CommandError("the building stage was stopped")
        finally:
            reader.close()
            self.service.close()

    def _ends(self) -> dict[int, tuple[int, int]]:
        return self._admin.ends(self._ledger, range(self._topic.partitions))

    def _lacks(self, reader: LogReader, own: Mapping[int, int], held: Mapping[int, tuple[int, int]]) -> bool:
        """Whether there is a record that the ledger held and that it has not come to."""
        try:
            return lacks(reader, own, {partition: high for partition, (_, high) in held.items()}, self._timeout_s)
        except BrokerUnavailable as error:
            log.warning("looked at again: %s", error)
            return True

    def close(self) -> None:
        self.index.close()
