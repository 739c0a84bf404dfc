"""Deliberate breaks of the program and crashes at stated steps. The product knows nothing of them.

    SABOTAGE_BREAK=name            the program runs with this break: its promise's test must fail
    SABOTAGE_CRASH=step@n[:how]    at the n-th time it passes this step the process kills (or stops) itself
    SABOTAGE_MARK=file             written just before that

`tests.support.worker` is `dejaview` with these applied. Tests that call the code itself get them from
`tests/conftest.py`.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

BREAK, CRASH, MARK = "SABOTAGE_BREAK", "SABOTAGE_CRASH", "SABOTAGE_MARK"
_COMMIT_SENT_S = 0.002

Call = Callable[..., Any]

# Step -> (class, method, whether the process ends before or after the call). The numbers are those of
# `stream/commit.py` and `stream/index.py`.
STEPS: dict[str, tuple[str, str, str]] = {
    "commit.1": ("stream.kafka.producer.LogProducer", "begin", "before"),
    "commit.2": ("stream.kafka.producer.LogProducer", "begin", "after"),
    "commit.3": ("stream.kafka.producer.LogProducer", "produce", "after"),
    "commit.3-half": ("stream.kafka.producer.LogProducer", "produce", "half"),
    "commit.4": ("stream.kafka.producer.LogProducer", "flush", "after"),
    "commit.5": ("stream.kafka.producer.LogProducer", "send_offsets", "after"),
    "commit.6-sent": ("stream.kafka.producer.LogProducer", "commit", "during"),
    "commit.6": ("stream.kafka.producer.LogProducer", "commit", "after"),
    "commit.7": ("stream.commit.Committer", "commit", "after"),
    "index.1": ("stream.index.IndexStage", "_check_chains", "after"),
    "index.2": ("stream.neighbours.milvus.index.MilvusIndex", "insert", "after"),
    "index.3": ("stream.index.IndexStage", "_check_first_step", "before"),
    "index.4": ("stream.kafka.consumer.GroupConsumer", "commit", "after"),
    "index.open": ("stream.neighbours.milvus.index.MilvusIndex", "delete_links", "after"),
    "index.prove": ("stream.index.IndexStage", "_prove", "after"),
}


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether anything is to be broken."""
    return BREAK in environment or CRASH in environment


def apply(environment: Mapping[str, str]) -> None:
    """Break this process as the environment says."""
    if BREAK in environment:
        BREAKS[environment[BREAK]]()
    if CRASH in environment:
        _crash(environment[CRASH], Path(environment[MARK]))


def crash_at(step: str, nth: int, mark: Path, how: str = "KILL") -> dict[str, str]:
    """The environment of a worker that ends at a step."""
    assert step in STEPS, step
    return {CRASH: f"{step}@{nth}:{how}", MARK: str(mark)}


def _crash(wish: str, mark: Path) -> None:
    step, _, rest = wish.partition("@")
    nth, _, how = rest.partition(":")
    owner, name, when = STEPS[step]
    number = signal.Signals[f"SIG{how}"]
    seen = 0

    def die() -> None:
        mark.write_text(step)
        os.kill(os.getpid(), number)

    def around(original: Call) -> Call:
        @functools.wraps(original)
        def method(self: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen != int(nth):
                return original(self, *arguments, **named)
            if when == "before":
                die()
            if when == "during":
                threading.Timer(_COMMIT_SENT_S, die).start()
            if when == "half":
                records = list(arguments[0])
                original(self, records[: (len(records) + 1) // 2])
                self.flush()
                die()
            result = original(self, *arguments, **named)
            if when in {"after", "during"}:
                die()
            return result

        return method

    _replace(owner, name, around)


def _replace(owner: str, name: str, around: Callable[[Call], Call]) -> None:
    module, _, attribute = owner.rpartition(".")
    target = getattr(import_module(module), attribute) if attribute[:1].isupper() else import_module(owner)
    setattr(target, name, around(getattr(target, name)))


# -- the breaks, one or more for each promise


def _encode_commits_what_it_took() -> None:
    """R1: ENCODE commits an upload's offset when it takes it, not when its fingerprint is on the broker."""

    def around(_original: Call) -> Call:
        return lambda self: self.position if (self.position or 0) > self._committed else None

    _replace("stream.offsets.ContiguousOffsets", "to_commit", around)


def _offsets_outside_the_transaction() -> None:
    """R2: DECIDE's offsets and ledger memory are not tied to its verdicts: a crash judges again."""

    def commit_first(_original: Call) -> Call:
        return lambda _self, _topic, _offsets, _metadata: None

    _replace("stream.kafka.producer.LogProducer", "send_offsets", commit_first)
    _forgetful_restore()


def _forgetful_restore() -> None:
    """R2: after a crash window and memory start empty instead of being read from the ledger."""
    _replace("stream.ledger.Restore", "_take", lambda _original: lambda _self, _record: None)


def _no_window() -> None:
    """R3: the window knows nothing: only the index is asked."""
    _replace(
        "stream.window.Window",
        "nearest",
        lambda _original: lambda _self, _tenant, _vectors, _biases, row_ids, _rows_max: [[] for _ in row_ids],
    )


def _pin_the_newest() -> None:
    """R3: a row leaves the window as soon as INDEX says it wrote it, and searches guarantee nothing."""
    _replace("stream.indexview.IndexView", "pin", _eventual_pin)
    _replace(
        "stream.neighbours.milvus.index.MilvusIndex",
        "_call",
        lambda original: lambda self, _guarantee, **_named: original(self, None, bounded=True),
    )


def _eventual_pin(_original: Call) -> Call:
    from stream.indexview import Pin  # noqa: PLC0415 - imported when it is broken, not before

    return lambda self, partition: Pin(self.newest(partition), None)


def _fail_open() -> None:
    """R4: an index that does not answer counts as one that knows nothing."""
    _replace(
        "stream.neighbours.milvus.index.MilvusIndex", "search", _nothing_on_error(lambda vectors: [[] for _ in vectors])
    )
    _replace("stream.neighbours.milvus.index.MilvusIndex", "get", _nothing_on_error(lambda _ids: {}))
    _replace("stream.indexview.IndexView", "refresh", _quiet)


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
    _replace("stream.indexview.IndexView", "_note", lambda _original: lambda _self, _links: [])


def _raise_on_a_bad_event() -> None:
    """R5: a bad upload is an exception instead of a dead letter."""

    def around(_original: Call) -> Call:
        def fail(_self: Any, item: Any, reason: Any, detail: str) -> None:
            raise RuntimeError(f"{item.source.key}: {reason} {detail}")

        return fail

    _replace("stream.prepare.Preparer", "_fail", around)


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

    _replace("stream.intake.sandbox.DecoderPool", "__init__", around)


def _connect_anywhere() -> None:
    """R7: no address is refused."""
    for module in ("stream.intake.addresses", "stream.intake.https"):
        _replace(module, "check_address", lambda _original: lambda _address: None)


def _take_without_end() -> None:
    """R8: ENCODE takes in uploads whatever it holds, and DECIDE's window is never full."""

    def around(original: Call) -> Call:
        def init(self: Any, settings: Any, *arguments: Any, **named: Any) -> None:
            loose = settings.encode.model_copy(update={"in_flight_items_max": 1 << 30, "in_flight_bytes_max": 1 << 40})
            original(self, settings.model_copy(update={"encode": loose}), *arguments, **named)

        return init

    _replace("stream.encode.EncodeStage", "__init__", around)
    _replace("stream.window.Window", "room", lambda _original: property(lambda _self: 1 << 30))


def _wait_for_ever() -> None:
    """R9: the shutdown waits for every stage, however long it takes."""

    def around(original: Call) -> Call:
        def close(self: Any) -> Any:
            self.settings = self.settings.model_copy(update={"drain_s": 3600.0})
            return original(self)

        return close

    _replace("stream.service.Service", "close", around)


def _remember_every_poll() -> None:
    """R8: a worker keeps every record that it has read."""
    kept: list[Any] = []

    def around(original: Call) -> Call:
        def poll(self: Any, *arguments: Any) -> Any:
            records = original(self, *arguments)
            kept.extend(bytes(4) + (record.value or b"") for record in records)
            return records

        return poll

    _replace("stream.kafka.consumer.GroupConsumer", "poll", around)


def _long_transactions() -> None:
    """R9: the broker keeps a dead decider's transaction open for half a minute."""

    def around(original: Call) -> Call:
        def init(self: Any, settings: Any, *arguments: Any) -> None:
            kafka = settings.kafka.model_copy(update={"transaction_timeout_s": 30.0})
            original(self, settings.model_copy(update={"kafka": kafka}), *arguments)

        return init

    _replace("stream.kafka.producer.LogProducer", "__init__", around)


def _second_signal_kills() -> None:
    """R9: after the first signal the next one ends the process as if nothing was in hand."""

    def around(original: Call) -> Call:
        def stop_on_signals(service: Any) -> None:
            original(service)
            for number in (signal.SIGTERM, signal.SIGINT):
                handler: Any = signal.getsignal(number)
                signal.signal(number, functools.partial(_once, handler))

        return stop_on_signals

    _replace("ops.cli.run", "_stop_on_signals", around)


def _once(handler: Call, number: int, frame: Any) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)
    handler(number, frame)


def _swap_colours() -> None:
    """R10: blue for red in one runtime."""
    _replace("models.runtimes.openvino.OpenvinoEncoder", "encode", _reversed_colours)


def _reversed_colours(original: Call) -> Call:
    return lambda self, pictures: original(self, pictures[..., ::-1].copy())


def _no_tenant_filter() -> None:
    """R11: neighbours are looked for among all tenants."""
    for name in ("tenant_rows",):
        _replace("stream.neighbours.filters", name, lambda _original: lambda _tenant: 'tenant != "_links"')
    _replace("stream.neighbours.milvus.index.MilvusIndex", "_hits", _any_tenants_hits)


def _any_tenants_hits(original: Call) -> Call:
    def hits(self: Any, tenant: str, answer: Iterable[Any]) -> Any:
        for hit in answer:
            hit["entity"]["tenant"] = tenant
        return original(self, tenant, answer)

    return hits


BREAKS: dict[str, Callable[[], None]] = {
    "encode-commits-what-it-took": _encode_commits_what_it_took,
    "offsets-outside-the-transaction": _offsets_outside_the_transaction,
    "forgetful-restore": _forgetful_restore,
    "no-window": _no_window,
    "pin-the-newest": _pin_the_newest,
    "fail-open": _fail_open,
    "ignore-fall-back": _ignore_fall_back,
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
}
