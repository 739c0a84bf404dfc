"""A limit of our own around calls that overrun theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from stream.errors import ProducerBroken
from stream.kafka.handover import Handover, NotEnded


def within(limit_s: float, doing: str, call: Callable[[], object]) -> None:
    """Make a call in a thread, and leave it behind when it does not come back in time.

    On busy cores the way there and back takes milliseconds: calls that follow each other belong into one.

    librdkafka's transactional calls overrun their time limits by minutes when the broker was away in the middle of
    one (its issues 5456 and 5511). The thread ends when the call does, and keeps its producer until then.

    Raises:
        ProducerBroken: it did not come back; only a new producer goes on.
        Whatever the call raises.
    """
    handover = Handover(call)
    threading.Thread(target=handover.run, name="kafka-transaction", daemon=True).start()
    try:
        handover.wait(limit_s)
    except NotEnded:
        raise ProducerBroken(f"{doing}: librdkafka did not come back in {limit_s:g} s") from None
