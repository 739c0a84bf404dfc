"""ENCODE: uploads in, fingerprints out, at least once.

    poll -> fetch and decode (threads, child processes) -> batch -> encode -> produce, flush -> commit the prefix

It keeps nothing: an upload is committed when its fingerprint, or its failure, is on the broker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import numpy as np

from models.background import Background
from models.encoder import Encoder
from models.preprocess import Pixels
from schemas.events import Fingerprint, Vector, encode_embedding
from stream.backoff import Backoff
from stream.batcher import Batcher, fill_wait_s
from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, DejaviewError, ProducerBroken, StageStopped, TransientError
from stream.health import Health
from stream.inflight import InFlight
from stream.kafka import UNREACHED_MAX, GroupConsumer, LogProducer, Outgoing
from stream.metrics import Metrics
from stream.prepare import Prepared, Preparer
from stream.stop import Stop
from stream.tenants import partition_of

log = logging.getLogger("dejaview.encode")

STAGE = "encode"
IDLE_WAIT_S = 0.1
BUSY_WAIT_S = 0.005
# So long it may take in nothing before it says so to the group's client.
FULL_S = 1.0
# A commit is a round trip; what a crash repeats for want of one DECIDE drops.
COMMIT_EVERY_S = 0.2
# It looks at everything in flight, and turns may be milliseconds apart.
REPORT_EVERY_S = 0.1


class EncodeStage:
    """The loop. One thread runs it; implements `kafka.Assignment`."""

    def __init__(
        self,
        settings: Settings,
        make_producer: Callable[[], LogProducer],
        preparer: Preparer,
        encoder: Encoder,
        background: Background,
        fingerprint_partitions: int,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._make_producer = make_producer
        self._producer = make_producer()
        self._preparer = preparer
        self._encoder = encoder
        self._background = background
        self._fingerprint_partitions = fingerprint_partitions
        self._metrics = metrics
        self._health = health
        encode = settings.encode
        self._batcher: Batcher[Prepared] = Batcher(encode.batch_items_max, encode.in_flight_bytes_max)
        record_bytes_max = settings.topics.message_bytes_max + settings.intake.bytes_max
        self._in_flight = InFlight(encode.in_flight_items_max, encode.in_flight_bytes_max, record_bytes_max)
        self._unopened: set[int] = set()
        self._paused = False
        self._fitted_at_s = 0.0
        self._commit_at_s = 0.0
        self._report_at_s = 0.0
        self._unpublished: list[Prepared] = []
        self._unreached = 0
        self._backoff = Backoff(settings.kafka.request_timeout_s)
        self._consumer: GroupConsumer | None = None
        self._stop = Stop()

    # -- called by the group consumer

    def assigned(self, partitions: Sequence[int]) -> None:
        log.info("assigned uploads partitions %s", sorted(partitions))
        self._unopened.update(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Commit what is done; what is in work is done again by the next owner."""
        try:
            self._commit(partitions)
        except DejaviewError as error:
            log.warning("not committed at revocation: %s", error)
        self._forget(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self._forget(partitions)

    # -- the loop

    def run(self, consumer: GroupConsumer, stop: Stop) -> None:
        """Turn until told to stop, then finish what is decoded. Half of the drain time after that it leaves the rest.

        Raises:
            StageStopped: going on would break a promise.
        """
        self._consumer = consumer
        self._stop = stop
        try:
            while not stop.is_set():
                self.turn(consumer)
            self._drain(consumer)
        finally:
            self._health.ended(STAGE)
            self._preparer.close()
            consumer.close()

    def turn(self, consumer: GroupConsumer) -> None:
        """One turn: take in what there is room for, give out at most one batch."""
        self._health.beat(STAGE)
        self._take_in(consumer)
        self._collect(self._wait_s())
        try:
            self._open(consumer)
            if not self._backoff.waiting():
                self._give_out(drain=False)
                self._commit_when_due()
                self._backoff.reset()
                self._health.ready(f"{STAGE} output")
        except (TransientError, BatchAborted) as error:
            self._metrics.broker_errors.labels(STAGE).inc()
            self._health.unready(f"{STAGE} output", str(error))
            self._backoff.failed()
            log.warning("tried again: %s", error)
        if time.monotonic() >= self._report_at_s:
            self._report()
            self._report_at_s = time.monotonic() + REPORT_EVERY_S

    def _take_in(self, consumer: GroupConsumer) -> None:
        """Poll for as much as fits. Full for `FULL_S` it polls, too, so that the group keeps this member: paused.

        Not at once: librdkafka throws away what it has fetched of a paused partition, and takes a second to go on.
        """
        room, now = self._in_flight.room, time.monotonic()
        if room >= 1:
            self._fitted_at_s = now
        elif not self._paused and now - self._fitted_at_s < FULL_S:
            return
        self._pause(consumer, paused=room < 1)
        records_max = max(1, min(room, self._settings.encode.batch_items_max))
        for record in consumer.poll(records_max, 0.0 if self._in_flight else IDLE_WAIT_S, 0.0):
            self._in_flight.take(self._preparer.submit(record))
            self._metrics.events.labels(STAGE).inc()

    @property
    def _all_decoded(self) -> bool:
        """No company is on its way to those that wait for some."""
        return len(self._batcher) == len(self._in_flight)

    def _wait_s(self) -> float:
        """How long the next decoded picture is waited for."""
        if self._backoff.waiting():
            return BUSY_WAIT_S
        if self._all_decoded:
            return 0.0
        due_s = self._batcher.wait_s(time.monotonic())
        return BUSY_WAIT_S if due_s is None else min(BUSY_WAIT_S, due_s)

    def _pause(self, consumer: GroupConsumer, *, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            (consumer.pause if paused else consumer.resume)(self._in_flight.partitions)

    def _open(self, consumer: GroupConsumer) -> None:
        for partition in sorted(self._unopened):
            consumer.seek(partition, consumer.start_offset(partition, self._settings.first_start))
            self._in_flight.open(partition)
            self._unopened.discard(partition)
            if not self._paused:
                consumer.resume([partition])

    def _give_out(self, *, drain: bool) -> None:
        """Encode and publish one batch. Its items are finished only when all are on the broker."""
        if not self._unpublished:
            self._unpublished = self._batcher.take(time.monotonic(), drain=drain or self._all_decoded)
        batch = [item for item in self._unpublished if self._in_flight.holds(item)]
        if batch:
            records = self._records(batch)
            with self._metrics.timed(STAGE, "publish"):
                self._publish(records)
            self._metrics.batch.labels(STAGE).observe(len(batch))
        for item in batch:
            self._in_flight.finish(item)
        self._unpublished = []

    def _publish(self, records: Sequence[Outgoing]) -> None:
        """All of them; a producer that is broken, or may have lost all brokers, is replaced for the next try."""
        try:
            self._producer.produce(records)
            self._producer.flush(give_up=self._out_of_time)
        except BrokerUnavailable as error:
            self._unreached += 1
            if isinstance(error, ProducerBroken) or self._unreached >= UNREACHED_MAX:
                # What it still holds would keep it alive, and come late.
                with suppress(DejaviewError):
                    self._producer.purge()
                self._producer = self._make_producer()
                self._unreached = 0
            raise
        self._unreached = 0

    def _records(self, batch: Sequence[Prepared]) -> list[Outgoing]:
        decoded = [(item, item.decoded.inputs) for item in batch if item.decoded is not None]
        fingerprints = {}
        if decoded:
            begun = time.monotonic()
            vectors = self._encode([pixels for _, inputs in decoded for pixels in inputs])
            biases = self._background.bias(vectors)
            encode_s = round(time.monotonic() - begun, 4)
            self._metrics.step.labels(STAGE, "encode").observe(encode_s)
            self._metrics.panels.inc(len(vectors) - len(decoded))
            made = iter(zip(map(encode_embedding, vectors), map(float, biases), strict=True))
            for item, inputs in decoded:
                item.timings_s["encode"] = encode_s
                embeddings, own_biases = zip(*islice(made, len(inputs)), strict=True)
                fingerprints[item.source.key] = item.fingerprint(embeddings, own_biases, self._encoder)
        return [self._outgoing(item, fingerprints.get(item.source.key)) for item in batch]

    def _encode(self, inputs: Sequence[Pixels]) -> Vector:
        """As many at once as a batch has pictures: panels come on top of them."""
        most = self._settings.encode.batch_items_max
        parts = [np.stack(inputs[start : start + most]) for start in range(0, len(inputs), most)]
        return np.concatenate([self._encoder.encode(part) for part in parts])

    def _outgoing(self, item: Prepared, fingerprint: Fingerprint | None) -> Outgoing:
        record = fingerprint or item.failure
        if record is None:
            raise ValueError(f"upload {item.source.key} was neither decoded nor failed")
        partition = partition_of(item.raw_tenant, self._fingerprint_partitions)
        value = record.model_dump_json(exclude_none=True).encode()
        # The key is for people who look: never a malformed name, which may be too long for the topic.
        key = item.tenant.encode() if item.tenant else None
        return Outgoing(self._settings.topics.fingerprints, value, partition=partition, key=key)

    def _collect(self, wait_s: float) -> None:
        """Decoded uploads go to the batcher."""
        encode = self._settings.encode
        for item in self._preparer.done(wait_s):
            if self._in_flight.holds(item):
                self._in_flight.decoded(item)
                age_s = time.time() - item.record.timestamp_ms / 1000
                company_s = fill_wait_s(age_s, encode.batch_wait_s, encode.batch_wait_late_s)
                self._batcher.add(item, item.byte_count, time.monotonic() + company_s)
                self._metrics.observe_steps(STAGE, item.timings_s)

    def _commit(self, partitions: Sequence[int]) -> None:
        if self._consumer is None or self._out_of_time():
            return
        offsets = self._in_flight.to_commit(partitions)
        self._consumer.commit(offsets)
        self._in_flight.committed(offsets)

    def _commit_when_due(self) -> None:
        if time.monotonic() >= self._commit_at_s:
            self._commit(self._in_flight.partitions)
            self._commit_at_s = time.monotonic() + COMMIT_EVERY_S

    def _forget(self, partitions: Sequence[int]) -> None:
        log.info("gave up uploads partitions %s", sorted(partitions))
        self._unopened.difference_update(partitions)
        self._in_flight.forget(partitions)

    def _out_of_time(self) -> bool:
        """Whether half of the drain time is over: a commit or a flush is begun before that, and may last beyond it."""
        return self._stop.for_s() >= self._settings.drain_s / 2

    def _drain(self, consumer: GroupConsumer) -> None:
        """Publish what is decoded or comes out in time; leave the rest uncommitted."""
        consumer.pause(self._in_flight.partitions)
        try:
            while self._in_flight and not self._out_of_time():
                self._health.beat(STAGE)
                self._collect(BUSY_WAIT_S)
                self._give_out(drain=True)
                # One upload may wait for its store until the time is over; the others are done.
                self._commit_when_due()
            self._commit(self._in_flight.partitions)
        except StageStopped:
            raise
        except DejaviewError as error:
            log.warning("at shutdown: %s", error)
        if self._in_flight:
            log.warning("%d uploads are left undone at shutdown, the next owner does them again", len(self._in_flight))

    def _report(self) -> None:
        metrics = self._metrics
        if self._consumer is not None:
            metrics.lag.labels(STAGE).set(sum(self._consumer.lag(*at) for at in self._in_flight.positions.items()))
            metrics.revived.labels(STAGE).set(self._consumer.revived)
        metrics.oldest.labels(STAGE).set(self._in_flight.oldest_ms / 1000)
        metrics.in_flight.set(len(self._in_flight))
        metrics.in_flight_bytes.set(self._in_flight.byte_count)
        metrics.decoder_restarts.set(self._preparer.decoder_restarts)
        if self._preparer.trouble:
            self._health.unready(f"{STAGE} input", self._preparer.trouble)
        else:
            self._health.ready(f"{STAGE} input")
        if not self._in_flight.partitions:
            self._health.unready(f"{STAGE} partitions", "none assigned yet")
        else:
            self._health.ready(f"{STAGE} partitions")
