"""The deliberate breaks, one or more for each promise; `tests/fault/mutations.py` says which test catches which."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any

Call = Callable[..., Any]
Around = Callable[[Call], Any]


def replace(owner: str, name: str, around: Around) -> None:
    """Put what `around` makes of a method or function (given by its dotted owner) in its place."""
    module, _, attribute = owner.rpartition(".")
    target = getattr(import_module(module), attribute) if attribute[:1].isupper() else import_module(owner)
    setattr(target, name, around(getattr(target, name)))


def _encode_commits_what_it_took() -> None:
    """R1: ENCODE commits an upload's offset as soon as it takes it, not when its fingerprint is on the broker."""

    def around(_original: Call) -> Call:
        return lambda self: self.position if (self.position or 0) > self._committed else None

    replace("stream.offsets.ContiguousOffsets", "to_commit", around)
    replace("stream.encode", "COMMIT_EVERY_S", lambda _original: 0.0)


def _offsets_outside_the_transaction() -> None:
    """R2: DECIDE's offsets and ledger memory are not tied to its verdicts: a crash judges again."""

    def commit_first(_original: Call) -> Call:
        return lambda _self, *_: None

    replace("stream.kafka.producer.LogProducer", "send_offsets", commit_first)
    _forgetful_restore()


def _forgetful_restore() -> None:
    """R2: after a crash window and memory start empty instead of being read from the ledger."""
    replace("stream.ledger.Restore", "_take", lambda _original: lambda _self, _record: None)


def _no_window() -> None:
    """R3: the window knows nothing: only the index is asked."""
    replace(
        "stream.window.Window",
        "nearest",
        lambda _original: lambda _self, _tenant, _vectors, row_ids, _rows_max: [[] for _ in row_ids],
    )


def _trust_the_index() -> None:
    """R3: rows leave the window without waiting for INDEX's progress, and searches guarantee nothing."""
    replace("stream.indexview.IndexView", "pin", _pin_everything)
    replace(
        "stream.neighbours.milvus.index.MilvusIndex",
        "_call",
        lambda original: lambda self, _guarantee, **_named: original(self, None, bounded=True),
    )


def _pin_everything(_original: Call) -> Call:
    from stream.indexview import Pin  # noqa: PLC0415 - imported when it is broken, not before

    return lambda _self, _partition: Pin(1 << 60, None, None)


def _fail_open() -> None:
    """R4: an index that does not answer counts as one that knows nothing."""
    replace(
        "stream.neighbours.milvus.index.MilvusIndex", "search", _nothing_on_error(lambda vectors: [[] for _ in vectors])
    )
    replace("stream.neighbours.milvus.index.MilvusIndex", "look_up", _nothing_on_error(lambda links: ({}, set(links))))
    replace("stream.indexview.IndexView", "refresh", _quiet)
    replace("stream.indexview.IndexView", "follow", _quiet)


def _nothing_on_error(nothing: Callable[[Any], Any]) -> Callable[[Call], Call]:
    from stream.errors import IndexUnavailable  # noqa: PLC0415

    def around(original: Call) -> Call:
        def method(self: Any, *arguments: Any) -> Any:
            try:
                return original(self, *arguments)
            except IndexUnavailable:
                return nothing(arguments[-2])

        return method

    return around


def _quiet(original: Call) -> Call:
    from stream.errors import DejaviewError  # noqa: PLC0415

    def method(self: Any) -> None:
        try:
            original(self)
        except DejaviewError:
            return

    return method


def _ignore_fall_back() -> None:
    """R4: an index that shows less than it did is believed."""

    def around(original: Call) -> Call:
        def note(self: Any, links: Any) -> list[int]:
            original(self, links)
            return []

        return note

    replace("stream.indexview.IndexView", "_note", around)


def _keep_the_reached_end() -> None:
    """R4: INDEX, begun again at 0, believes the end of the ledger that it had reached before."""

    def around(original: Call) -> Call:
        def seek(self: Any, consumer: Any, partition: int, offset: int) -> None:
            end = self.end(partition)
            original(self, consumer, partition, offset)
            self._ends[partition] = end

        return seek

    replace("stream.kafka.reading.Reading", "seek", around)


def _offsets_without_a_topic() -> None:
    """R1: a committed offset does not say which topic it belongs to."""

    def around(original: Call) -> Call:
        return lambda topic, offsets, _topic_id: original(topic, offsets, None)

    for module in ("stream.kafka.consumer", "stream.kafka.producer"):
        replace(module, "committable", around)


def _overtake_the_fetch() -> None:
    """R1: a partition is paused before librdkafka has begun to fetch it, and is never read again."""

    def take(consumer: Any, places: Any) -> None:
        consumer.incremental_assign(places)
        consumer.pause(places)

    replace("stream.kafka.reading.Reading", "_take", lambda _original: staticmethod(take))


def _trust_the_client() -> None:
    """R1: nobody notices a partition that librdkafka reads no more."""
    replace("stream.kafka.reading.Reading", "revive", lambda _original: lambda _self, _consumer: None)


def _any_ledger_offset() -> None:
    """R3: DECIDE goes on over a ledger that begins again at 0."""
    replace("stream.commit", "_check_ledger", lambda _original: lambda _ledger, _ends: None)


def _topics_unwatched() -> None:
    """R1, R3: nobody looks whether the topics still are what they were."""
    replace("stream.service.Service", "_check_topics", lambda _original: lambda _self: None)


def _raise_on_a_bad_event() -> None:
    """R5: a bad upload is an exception instead of a dead letter."""

    def around(_original: Call) -> Call:
        def fail(_self: Any, item: Any, reason: Any, detail: str) -> None:
            raise RuntimeError(f"{item.source.key}: {reason} {detail}")

        return fail

    replace("stream.prepare.Preparer", "_fail", around)


def _no_limits_around_the_decoder() -> None:
    """R6: the decoder has no limits of time, memory or pixels."""

    def around(original: Call) -> Call:
        def init(self: Any, settings: Any, *arguments: Any, **named: Any) -> None:
            loose = {
                "decode_wall_s": 3600.0,
                "decode_cpu_s": 3600.0,
                "decode_memory_bytes": 1 << 40,
                "pixels_max": 1 << 40,
                "side_max": 1 << 20,
            }
            original(self, settings.model_copy(update=loose), *arguments, **named)

        return init

    replace("stream.intake.sandbox.DecoderPool", "__init__", around)


def _connect_anywhere() -> None:
    """R7: no address is refused."""
    for module in ("stream.intake.addresses", "stream.intake.https"):
        replace(module, "check_address", lambda _original: lambda _address: None)


def _take_without_end() -> None:
    """R8: ENCODE takes in uploads whatever it holds, and DECIDE's window is never full."""

    def around(original: Call) -> Call:
        def init(self: Any, settings: Any, *arguments: Any, **named: Any) -> None:
            loose = settings.encode.model_copy(update={"in_flight_items_max": 1 << 30, "in_flight_bytes_max": 1 << 40})
            original(self, settings.model_copy(update={"encode": loose}), *arguments, **named)

        return init

    replace("stream.encode.EncodeStage", "__init__", around)
    replace("stream.window.Window", "room", lambda _original: property(lambda _self: 1 << 30))


def _wait_for_ever() -> None:
    """R9: the shutdown waits for every stage, however long it takes."""

    def around(original: Call) -> Call:
        def close(self: Any) -> Any:
            self.settings = self.settings.model_copy(update={"drain_s": 3600.0})
            return original(self)

        return close

    replace("stream.service.Service", "close", around)


def _remember_every_poll() -> None:
    """R8: a worker keeps every record that it has read."""
    kept: list[Any] = []

    def around(original: Call) -> Call:
        def poll(self: Any, *arguments: Any) -> Any:
            records = original(self, *arguments)
            kept.extend(bytes(4) + (record.value or b"") for record in records)
            return records

        return poll

    replace("stream.kafka.consumer.GroupConsumer", "poll", around)


def _long_transactions() -> None:
    """R9: the broker keeps a dead decider's transaction open for half a minute."""

    def around(original: Call) -> Call:
        def init(self: Any, settings: Any, *arguments: Any) -> None:
            kafka = settings.kafka.model_copy(update={"transaction_timeout_s": 30.0})
            original(self, settings.model_copy(update={"kafka": kafka}), *arguments)

        return init

    replace("stream.kafka.producer.LogProducer", "__init__", around)


def _second_signal_kills() -> None:
    """R9: after the first signal the next one ends the process as if nothing was in hand."""

    def around(original: Call) -> Call:
        def stop_on_signals(service: Any) -> None:
            original(service)
            for number in (signal.SIGTERM, signal.SIGINT):
                handler: Any = signal.getsignal(number)
                signal.signal(number, functools.partial(_once, handler))

        return stop_on_signals

    replace("ops.cli.run", "_stop_on_signals", around)


def _once(handler: Call, number: int, frame: Any) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)
    handler(number, frame)


def _swap_colours() -> None:
    """R10: blue for red in one runtime."""
    replace("models.runtimes.openvino.OpenvinoEncoder", "encode", _reversed_colours)


def _reversed_colours(original: Call) -> Call:
    return lambda self, pictures: original(self, pictures[..., ::-1].copy())


def _no_tenant_filter() -> None:
    """R11: neighbours are looked for among all tenants."""
    replace("stream.neighbours.filters", "tenant_rows", lambda _original: lambda _tenant: 'tenant != "_links"')
    replace("stream.neighbours.milvus.index.MilvusIndex", "_hits", _any_tenants_hits)


def _any_tenants_hits(original: Call) -> Call:
    def hits(self: Any, tenant: str, answer: Any, queries: int) -> Any:
        for field in answer.data.fields_data:
            if field.field_name == "tenant":
                field.scalars.string_data.data[:] = [tenant] * len(field.scalars.string_data.data)
        return original(self, tenant, answer, queries)

    return hits


def _one_window_for_all() -> None:
    """R11: the window ignores the tenant."""

    def around(original: Call) -> Call:
        def nearest(self: Any, _tenant: str, *asked: Any) -> list[list[Any]]:
            found = [original(self, tenant, *asked) for tenant in (*self._tenants, "")]
            return [[hit for hits in of_each for hit in hits] for of_each in zip(*found, strict=True)]

        return nearest

    replace("stream.window.Window", "nearest", around)


BREAKS: dict[str, Callable[[], None]] = {
    "encode-commits-what-it-took": _encode_commits_what_it_took,
    "offsets-outside-the-transaction": _offsets_outside_the_transaction,
    "forgetful-restore": _forgetful_restore,
    "no-window": _no_window,
    "trust-the-index": _trust_the_index,
    "fail-open": _fail_open,
    "ignore-fall-back": _ignore_fall_back,
    "keep-the-reached-end": _keep_the_reached_end,
    "offsets-without-a-topic": _offsets_without_a_topic,
    "overtake-the-fetch": _overtake_the_fetch,
    "trust-the-client": _trust_the_client,
    "any-ledger-offset": _any_ledger_offset,
    "topics-unwatched": _topics_unwatched,
    "raise-on-a-bad-event": _raise_on_a_bad_event,
    "no-limits-around-the-decoder": _no_limits_around_the_decoder,
    "connect-anywhere": _connect_anywhere,
    "take-without-end": _take_without_end,
    "wait-for-ever": _wait_for_ever,
    "remember-every-poll": _remember_every_poll,
    "long-transactions": _long_transactions,
    "second-signal-kills": _second_signal_kills,
    "swap-colours": _swap_colours,
    "no-tenant-filter": _no_tenant_filter,
    "one-window-for-all": _one_window_for_all,
}
