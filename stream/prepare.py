"""From an upload record to decoded pixels: parse, fetch, decode, each in its own threads.

A failure of the item itself becomes a `FingerprintFailure`. A store, or a sandbox, that is away is
tried again here, while the uploads in flight (a bounded number) hold the partition back.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Event
from typing import TypeVar

from models.encoder import Encoder
from models.panels import Box as PixelBox
from schemas.cloudevents import BadEvent, Upload, claimed_id, raw_tenant, read_upload, truncated
from schemas.events import (
    DETAIL_CHARS_MAX,
    Box,
    Fingerprint,
    FingerprintFailure,
    Panel,
    Reason,
    SourcePosition,
    UploadReference,
)
from stream.config import IntakeSettings
from stream.errors import ItemError, SandboxUnavailable, StoreUnavailable
from stream.intake.decode import Decoded
from stream.intake.fetch import Fetcher
from stream.intake.sandbox import DecoderPool
from stream.kafka import Record
from stream.tenants import parse_tenant

log = logging.getLogger("dejaview.encode")

T = TypeVar("T")

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 10.0
# What a header costs beside its name and value: a tuple, a string and a bytes object.
HEADER_BYTES = 150
DIGITS = 4


@dataclass(slots=True)
class Prepared:
    """An upload on its way through ENCODE. It has `decoded` or `failure` once it is done."""

    record: Record
    source: SourcePosition
    raw_tenant: bytes
    tenant: str | None = None
    upload_id: str | None = None
    event_time: datetime | None = None
    traceparent: str | None = None
    sha256: str = ""
    byte_count: int = 0
    # Bytes this upload may hold in memory: its record and, until it is decoded, its image (a reference: the largest).
    charged_bytes: int = 0
    # Its partition is another worker's now.
    cancelled: bool = False
    decoded: Decoded | None = None
    failure: FingerprintFailure | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def record_bytes(self) -> int:
        """What its record holds: a sender may put megabytes into headers and key, too."""
        record = self.record
        headers = sum(HEADER_BYTES + len(name) + len(value) for name, value in record.headers)
        return len(record.value or b"") + len(record.key or b"") + headers

    def fingerprint(self, embeddings: Sequence[str], biases: Sequence[float], encoder: Encoder) -> Fingerprint:
        """Of an upload that is decoded and encoded: of the picture, then of its panels."""
        decoded = self.decoded
        if decoded is None or self.tenant is None or self.upload_id is None:
            raise ValueError(f"upload {self.source.key} is not decoded")
        return Fingerprint(
            source=self.source,
            source_topic=self.record.topic,
            upload_timestamp_ms=self.record.timestamp_ms,
            event_time=self.event_time,
            traceparent=self.traceparent,
            tenant=self.tenant,
            upload_id=self.upload_id,
            sha256=self.sha256,
            pdq=decoded.pdq,
            pdq_quality=decoded.pdq_quality,
            embedding=embeddings[0],
            bias=biases[0],
            panels=[
                Panel(
                    box=box_of(part.box),
                    pdq=part.pdq.hash,
                    pdq_quality=part.pdq.quality,
                    embedding=embedding,
                    bias=bias,
                )
                for part, embedding, bias in zip(decoded.panels, embeddings[1:], biases[1:], strict=True)
            ],
            model_id=encoder.model_id,
            format=decoded.format,
            width=decoded.width,
            height=decoded.height,
            byte_count=self.byte_count,
            runtime=encoder.runtime,
            timings_s=self.timings_s,
        )


def box_of(pixels: PixelBox) -> Box:
    """Where a panel lies, as messages say it."""
    left, top, right, bottom = (round(share, DIGITS) for share in pixels.shares)
    return Box(left=left, top=top, right=right, bottom=bottom)


class StoppedError(Exception):
    """The stage is shutting down; the item is left to whoever reads it next."""


class Preparer:
    """Prepares records in threads; `done` gives them back in any order."""

    def __init__(self, settings: IntakeSettings, topic_id: str, allowed_tenants: Collection[str] | None) -> None:
        self._settings = settings
        self._topic_id = topic_id
        self._allowed_tenants = allowed_tenants
        self._fetcher = Fetcher(settings)
        self._decoders = DecoderPool(settings)
        self._fetches = ThreadPoolExecutor(settings.fetchers, thread_name_prefix="fetch")
        self._decodes = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decode")
        self._done: SimpleQueue[Prepared] = SimpleQueue()
        self._broken: SimpleQueue[BaseException] = SimpleQueue()
        self._stop = Event()
        # By upload, what it waits for.
        self._troubles: dict[str, str] = {}

    @property
    def decoder_restarts(self) -> int:
        return self._decoders.restarts

    @property
    def trouble(self) -> str | None:
        """What an upload waits for just now: a store or a sandbox that is away."""
        return next(iter(list(self._troubles.values())), None)

    def submit(self, record: Record) -> Prepared:
        """Start work on a record; it comes out of `done` later."""
        raw = raw_tenant(record.headers, record.value)
        source = SourcePosition(topic_id=self._topic_id, partition=record.partition, offset=record.offset)
        item = Prepared(record, source, raw or b"")
        item.charged_bytes = item.record_bytes
        try:
            item.tenant = parse_tenant(raw, self._allowed_tenants)
            upload = read_upload(record.headers, record.value)
        except (BadEvent, ItemError) as error:
            # Read once more, for its name alone: a good event, which may be large, is not parsed for it.
            item.upload_id = claimed_id(record.headers, record.value)
            bad = error if isinstance(error, ItemError) else ItemError(Reason.BAD_EVENT, str(error))
            self._fail(item, bad.reason, bad.detail)
        else:
            self._start(item, upload)
        return item

    def done(self, wait_s: float) -> list[Prepared]:
        """What has become ready; waits for a first one at most `wait_s`.

        Raises:
            Whatever a thread did not expect.
        """
        if not self._broken.empty():
            raise self._broken.get()
        ready: list[Prepared] = []
        try:
            ready.append(self._done.get(timeout=wait_s) if wait_s > 0 else self._done.get_nowait())
            while True:
                ready.append(self._done.get_nowait())
        except Empty:
            return ready

    def close(self) -> None:
        """Give up what is in work."""
        self._stop.set()
        self._fetches.shutdown(wait=False, cancel_futures=True)
        self._decodes.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()

    def _start(self, item: Prepared, upload: Upload) -> None:
        item.upload_id = upload.upload_id
        item.event_time = upload.event_time
        item.traceparent = upload.traceparent
        content = upload.content
        if isinstance(content, UploadReference):
            item.charged_bytes += self._settings.bytes_max
            self._run(self._fetches, item, lambda: self._fetch(item, content))
        else:
            # Structured mode: the bytes stand beside their base64.
            item.charged_bytes += len(content) if content is not item.record.value else 0
            self._run(self._decodes, item, lambda: self._decode(item, content))

    def _run(self, executor: Executor, item: Prepared, work: Callable[[], None]) -> None:
        def guarded() -> None:
            if item.cancelled:
                return
            try:
                self._work(item, work)
            except StoppedError:
                log.debug("left %s", item.source.key)
            except BaseException as error:
                # A bug of ours: without this the item would stay in flight for ever and hold its partition.
                self._broken.put(error)
                raise

        executor.submit(guarded)

    def _work(self, item: Prepared, work: Callable[[], None]) -> None:
        try:
            work()
        except ItemError as error:
            self._fail(item, error.reason, error.detail)

    def _fetch(self, item: Prepared, reference: UploadReference) -> None:
        begun = time.monotonic()
        data = self._retried(item, lambda: self._fetcher.fetch(reference), begun + self._settings.fetch_retry_max_s)
        item.timings_s["fetch"] = round(time.monotonic() - begun, 4)
        self._run(self._decodes, item, lambda: self._decode(item, data))

    def _decode(self, item: Prepared, data: bytes) -> None:
        begun = time.monotonic()
        item.sha256 = hashlib.sha256(data).hexdigest()
        item.byte_count = len(data)
        item.decoded = self._retried(item, lambda: self._decoders.decode(data), None)
        item.timings_s["decode"] = round(time.monotonic() - begun, 4)
        self._done.put(item)

    def _retried(self, item: Prepared, call: Callable[[], T], deadline_s: float | None) -> T:
        """Call again while what it depends on is away.

        Raises:
            ItemError: `store_unavailable` once a store's deadline has passed.
            StoppedError: the stage is shutting down, or the item is another worker's now.
        """
        wait_s = RETRY_FIRST_S
        try:
            while not self._stop.is_set() and not item.cancelled:
                try:
                    result = call()
                except (StoreUnavailable, SandboxUnavailable) as error:
                    # The last try is at the deadline itself: before it nobody may give up.
                    left_s = wait_s if deadline_s is None else deadline_s - time.monotonic()
                    if left_s <= 0:
                        raise ItemError(Reason.STORE_UNAVAILABLE, str(error)) from error
                    log.warning("%s; tried again in %.1f s", error, min(wait_s, left_s))
                    self._troubles[item.source.key] = str(error)
                    self._stop.wait(min(wait_s, left_s))
                    wait_s = min(RETRY_MAX_S, 2 * wait_s)
                else:
                    return result
            raise StoppedError
        finally:
            self._troubles.pop(item.source.key, None)

    def _fail(self, item: Prepared, reason: Reason, detail: str) -> None:
        item.failure = FingerprintFailure(
            source=item.source,
            source_topic=item.record.topic,
            upload_timestamp_ms=item.record.timestamp_ms,
            event_time=item.event_time,
            traceparent=item.traceparent,
            tenant=item.tenant,
            upload_id=item.upload_id,
            reason=reason,
            detail=detail[:DETAIL_CHARS_MAX],
            headers=truncated(item.record.headers),
        )
        self._done.put(item)
