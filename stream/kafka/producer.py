"""Producing: idempotent, or in transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream.config import Settings
from stream.errors import BrokerUnavailable, DejaviewError, ProducerBroken
from stream.kafka.client import configuration, option_errors, translate, translated
from stream.kafka.deadline import within
from stream.kafka.records import Outgoing, committable

# Beyond a call's own limit, before it is left behind.
_GRACE_S = 2.0
# How often a flush that waits asks whether it should go on.
_ASKED_EVERY_S = 1.0
_DROPPED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # noqa: SLF001


class LogProducer:
    """An idempotent producer; with a transactional id, a transactional one."""

    def __init__(self, settings: Settings, transactional_id: str | None = None) -> None:
        self._timeout_s = settings.kafka.request_timeout_s
        # After that the broker gives up a transaction whose end it was not told: waiting longer is for nothing.
        self._transaction_s = settings.kafka.transaction_timeout_s
        own: dict[str, Any] = {
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.max.bytes": settings.topics.message_bytes_max,
            "queue.buffering.max.kbytes": 262_144,
            "delivery.timeout.ms": int(self._timeout_s * 1000),
        }
        if transactional_id is not None:
            own["transactional.id"] = transactional_id
            own["transaction.timeout.ms"] = int(settings.kafka.transaction_timeout_s * 1000)
            own["delivery.timeout.ms"] = own["transaction.timeout.ms"]
            # A topic that is gone is to be told as such, before the transaction's time is over.
            own["topic.metadata.propagation.max.ms"] = own["transaction.timeout.ms"] // 2
            # A rebootstrap throws away the brokers that are known, the group's coordinator among them, and sending
            # offsets waits for that one for ever (librdkafka's issue 5511). A producer that failed is made anew.
            own["metadata.recovery.strategy"] = "none"
        with option_errors():
            self._producer = Producer(configuration(settings, settings.kafka.producer_options, own))
        self._failed: tuple[KafkaError, str] | None = None
        self._left_behind = False
        # Where records went in this transaction: when it fails, they are dropped together.
        self._touched: dict[str, None] | None = None if transactional_id is None else {}
        if transactional_id is not None:
            self._transact(f"starting transactional id {transactional_id}", "init_transactions", self._timeout_s)

    def begin(self) -> None:
        with translated("beginning a transaction"):
            self._producer.begin_transaction()
        self._touched = {}

    def produce(self, records: Iterable[Outgoing]) -> None:
        """Hand records over; `flush` says whether they arrived.

        Raises:
            BrokerUnavailable: the local queue is full.
        """
        for record in records:
            if self._touched is not None:
                self._touched[record.topic] = None
            try:
                self._producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                    on_delivery=partial(self._delivered, record),
                )
            except BufferError as error:
                raise BrokerUnavailable(f"producing to {record.topic}: the local queue is full") from error
            except KafkaException as exception:
                raise translate(exception.args[0], f"producing to {record.topic}") from exception

    def serve(self) -> None:
        """Take in delivery reports without waiting, so that the local queue does not fill."""
        with translated("producing"):
            self._producer.poll(0)

    def flush(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until all that was produced is on the broker.

        Args:
            give_up: asked every second or so; when it says so, it is not waited any longer.

        Raises:
            BrokerUnavailable: something is not; a later flush may or may not deliver it.
            NotPermitted, TopicMissing: the broker refused a record.
        """
        begun = time.monotonic()
        waited_s = 0.0
        # A fatal error is raised by whatever polls next.
        with translated("producing"):
            while left := self._producer.flush(max(0.0, min(_ASKED_EVERY_S, self._timeout_s - waited_s))):
                waited_s = time.monotonic() - begun
                if waited_s >= self._timeout_s or give_up():
                    break
        failed, self._failed = self._failed, None
        if failed is not None:
            raise self._explained(*failed)
        if left:
            raise BrokerUnavailable(f"{left} records were not acknowledged in {waited_s:.3g} s")

    def guarded(self, calls: Callable[[], object]) -> None:
        """`send_offsets` and `commit`, which overrun their limits when the broker was away, within a limit of ours.

        Raises:
            ProducerBroken: they did not come back. None of them is begun any more.
            Whatever the calls raise.
        """
        try:
            within(self._transaction_s + _GRACE_S, "ending a transaction", calls)
        except ProducerBroken:
            self._left_behind = True
            raise

    def send_offsets(self, topic: str, offsets: Mapping[int, int], group_metadata: Any, topic_id: str | None) -> None:
        """Call it `guarded`."""
        self._check_in_use()
        with translated("sending offsets to the transaction"):
            self._producer.send_offsets_to_transaction(
                committable(topic, offsets, topic_id), group_metadata, self._transaction_s
            )

    def commit(self) -> None:
        """Commit the transaction. Call it `guarded`.

        Raises:
            BatchAborted: it must be aborted.
            BrokerUnavailable: nobody knows; the ledger does.
        """
        self._check_in_use()
        with translated("committing a transaction"):
            self._producer.commit_transaction(self._transaction_s)

    def abort(self) -> None:
        self._transact("aborting a transaction", "abort_transaction", self._transaction_s)
        # What the abort purged is reported from here on; a report taken in by the next flush would fail that batch.
        with translated("aborting a transaction"):
            self._producer.flush(0)
        self._failed = None

    def purge(self) -> None:
        """Forget what was not delivered."""
        with translated("forgetting what was not delivered"):
            self._producer.purge()
            self._producer.flush(0)
        self._failed = None

    def _transact(self, doing: str, name: str, limit_s: float) -> None:
        """One of librdkafka's transactional calls, its limit in seconds kept."""
        with translated(doing):
            within(limit_s + _GRACE_S, doing, partial(getattr(self._producer, name), limit_s))

    def _check_in_use(self) -> None:
        """A call that comes back late must not be followed by another: a new producer has settled its transaction."""
        if self._left_behind:
            raise ProducerBroken("this producer was left behind")

    def _explained(self, error: KafkaError, topic: str) -> DejaviewError:
        """Why a record was not delivered.

        A transaction that fails (no right to write to one of its topics, say) drops its records, and only its
        commit is told why. It cannot succeed: librdkafka commits nothing after a record was dropped.
        """
        if self._touched is None or error.code() not in _DROPPED:
            return translate(error, f"producing to {topic}")
        doing = f"producing to {', '.join(self._touched)} in one transaction"
        try:
            self._transact(doing, "commit_transaction", self._transaction_s)
        except DejaviewError as reason:
            return reason
        return translate(error, doing)

    def _delivered(self, record: Outgoing, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = self._failed or (error, record.topic)
            return
        offset = message.offset()
        record.offset = -1 if offset is None else offset
        record.partition = message.partition() or 0
