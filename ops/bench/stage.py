"""ENCODE's own loop with Kafka in memory: what decoding and encoding reach when nothing else is in the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import cast

from models.background import Background
from models.encoder import Encoder
from schemas.cloudevents import upload_headers
from stream.config import IntakeSettings, Settings
from stream.encode import EncodeStage
from stream.health import Health
from stream.intake.decode import Decoded
from stream.kafka import GroupConsumer, LogProducer, Outgoing, Record
from stream.metrics import Metrics
from stream.prepare import Prepared, Preparer
from stream.stop import Stop

PARTITIONS = 12


class MemoryConsumer:
    """One partition of uploads: these photos, over and over, `count` in all."""

    revived = 0

    def __init__(self, photos: Sequence[bytes], count: int) -> None:
        self._photos = photos
        self._count = count
        self._next = 0
        self._headers = upload_headers("bench", "bench", "image/jpeg", "/bench")
        self.committed_to = 0
        # When, and to where: the decoders have started by then.
        self.first_commit: tuple[float, int] | None = None
        self.finished = Event()
        # As every partition that is newly assigned.
        self._paused = True

    def poll(self, records_max: int, first_wait_s: float, _fill_wait_s: float) -> list[Record]:
        if self._paused or self._next == self._count:
            time.sleep(first_wait_s)
            return []
        begin, self._next = self._next, min(self._count, self._next + records_max)
        now_ms = int(time.time() * 1000)
        return [self._record(offset, now_ms) for offset in range(begin, self._next)]

    def _record(self, offset: int, now_ms: int) -> Record:
        return Record("uploads", 0, offset, now_ms, self._headers, self._photos[offset % len(self._photos)])

    def start_offset(self, _partition: int, _first_start: str) -> int:
        return 0

    def lag(self, _partition: int, position: int) -> int:
        return self._count - position

    def seek(self, _partition: int, _offset: int) -> None:
        """There is one reader, and it begins at 0."""

    def pause(self, _partitions: Iterable[int]) -> None:
        self._paused = True

    def resume(self, _partitions: Iterable[int]) -> None:
        self._paused = False

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.committed_to = offsets.get(0, self.committed_to)
        if self.first_commit is None and self.committed_to:
            self.first_commit = time.perf_counter(), self.committed_to
        if self.committed_to >= self._count:
            self.finished.set()

    def close(self) -> None:
        """Nothing is open."""


class MemoryProducer:
    """Takes fingerprints and forgets them."""

    def produce(self, _records: Sequence[Outgoing]) -> None:
        """A broker would be somebody else's figure."""

    def flush(self, give_up: Callable[[], bool]) -> None:
        """Everything is where it stays."""


class DecodedPreparer(Preparer):
    """Hands out pictures that were decoded before, in the threads that would have waited for a decoder."""

    def __init__(self, settings: IntakeSettings, pictures: Sequence[Decoded]) -> None:
        super().__init__(settings, "bench-topic", None)
        self._pictures = pictures

    def _decode(self, item: Prepared, data: bytes) -> None:
        item.sha256 = hashlib.sha256(data).hexdigest()
        item.byte_count = len(data)
        item.decoded = self._pictures[item.record.offset % len(self._pictures)]
        item.timings_s["decode"] = 0.0
        self._done.put(item)


def stage_rate(
    settings: Settings,
    encoder: Encoder,
    photos: Sequence[bytes],
    count: int,
    timeout_s: float = 300.0,
    decoded: Sequence[Decoded] = (),
) -> float:
    """Images/s from the first commit to the last; from the first poll when there is one commit.

    Args:
        decoded: what decoding makes of the photos; it is left out when this is given.

    Raises:
        TimeoutError: not all were committed in time.
    """
    consumer = MemoryConsumer(photos, count)
    intake = settings.intake
    preparer = DecodedPreparer(intake, decoded) if decoded else Preparer(intake, "bench-topic", None)
    stage = EncodeStage(
        settings,
        lambda: cast("LogProducer", MemoryProducer()),
        preparer,
        encoder,
        Background.load(settings.model.weights),
        PARTITIONS,
        Metrics(),
        Health(settings.health.loop_stall_s),
    )
    stage.assigned([0])
    stop = Stop()
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as threads:
        begun = time.perf_counter()
        loop = threads.submit(stage.run, cast("GroupConsumer", consumer), stop)
        loop.add_done_callback(lambda _: consumer.finished.set())
        consumer.finished.wait(timeout_s)
        finished = time.perf_counter()
        # Before the drain, which may still commit some.
        committed = consumer.committed_to
        stop.set()
        # Raises what ended the loop.
        loop.result()
    if committed < count:
        raise TimeoutError(f"{committed} of {count} after {timeout_s:g} s")
    since, skipped = consumer.first_commit or (begun, 0)
    return (count - skipped) / (finished - since) if skipped < count else count / (finished - begun)
