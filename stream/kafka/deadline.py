"""A limit of our own around calls that overrun theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from stream.errors import ProducerBroken


def _forget_frames(error: BaseException | None) -> None:
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def within(limit_s: float, doing: str, call: Callable[[], object]) -> None:
    """Make a call in a thread, and leave it behind when it does not come back in time.

    On busy cores the way there and back takes milliseconds: calls that follow each other belong into one.

    librdkafka's transactional calls overrun their time limits by minutes when the broker was away in the middle of
    one (its issues 5456 and 5511). The thread ends when the call does, and keeps its producer until then.

    Raises:
        ProducerBroken: it did not come back; only a new producer goes on.
        Whatever the call raises.
    """
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            # Without tracebacks: they hold this frame, and this frame the call and its producer.
            _forget_frames(error)
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, name="kafka-transaction", daemon=True).start()
    try:
        error = ended.get(timeout=limit_s)
    except Empty:
        raise ProducerBroken(f"{doing}: librdkafka did not come back in {limit_s:g} s") from None
    try:
        if error is not None:
            raise error
    finally:
        # An error that a frame of its own traceback holds is freed late, and with it a producer that has failed: it
        # would go on by itself when the broker is back, and fence the one that follows.
        del error
