"""The uploads that ENCODE has taken and not yet published: whether more fit, whose they are, what may be committed.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from stream.offsets import ContiguousOffsets
from stream.prepare import Prepared


class InFlight:
    """Of all partitions that are open.

    Args:
        items_max: uploads at most.
        bytes_max: what all of them may hold, in bytes.
        item_bytes_max: what one may hold that is not known yet.
    """

    def __init__(self, items_max: int, bytes_max: int, item_bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._item_bytes_max = item_bytes_max
        self._items: dict[tuple[int, int], Prepared] = {}
        self._offsets: dict[int, ContiguousOffsets] = {}
        self._byte_count = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def byte_count(self) -> int:
        return self._byte_count

    @property
    def partitions(self) -> list[int]:
        return list(self._offsets)

    @property
    def positions(self) -> dict[int, int]:
        """By partition the offset after the last one taken, where one was."""
        known = {partition: offsets.position for partition, offsets in self._offsets.items()}
        return {partition: position for partition, position in known.items() if position is not None}

    @property
    def oldest_ms(self) -> int:
        """The earliest upload's timestamp, 0 without any."""
        return min((item.record.timestamp_ms for item in self._items.values()), default=0)

    @property
    def room(self) -> int:
        """How many more fit, each as large as one may be."""
        byte_room = self._bytes_max - self._byte_count
        return min(self._items_max - len(self._items), byte_room // self._item_bytes_max)

    def open(self, partition: int) -> None:
        self._offsets[partition] = ContiguousOffsets()

    def take(self, item: Prepared) -> None:
        """An upload of an open partition enters.

        Raises:
            KeyError: its partition is not open. ValueError: its offset is not after the last one there.
        """
        record = item.record
        self._offsets[record.partition].take(record.offset)
        self._items[record.partition, record.offset] = item
        self._byte_count += item.charged_bytes

    def decoded(self, item: Prepared) -> None:
        """A fetched image's bytes are gone by now: its record is what it holds."""
        held = item.record_bytes
        self._byte_count -= item.charged_bytes - held
        item.charged_bytes = held

    def holds(self, item: Prepared) -> bool:
        """Whether this very one is in flight: a partition that was given up may have come back, and be read again."""
        return self._items.get((item.record.partition, item.record.offset)) is item

    def finish(self, item: Prepared) -> None:
        """It is published."""
        record = item.record
        self._offsets[record.partition].finish(record.offset)
        self._byte_count -= item.charged_bytes
        del self._items[record.partition, record.offset]

    def forget(self, partitions: Collection[int]) -> None:
        """These are given up; what is in work of them is cancelled."""
        for partition in partitions:
            self._offsets.pop(partition, None)
        for place in [place for place in self._items if place[0] in partitions]:
            item = self._items.pop(place)
            item.cancelled = True
            self._byte_count -= item.charged_bytes

    def to_commit(self, partitions: Iterable[int]) -> dict[int, int]:
        """By partition the first offset that is not finished, where that is not committed already."""
        due = {p: self._offsets[p].to_commit() for p in partitions if p in self._offsets}
        return {partition: offset for partition, offset in due.items() if offset is not None}

    def committed(self, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._offsets[partition].committed(offset)
