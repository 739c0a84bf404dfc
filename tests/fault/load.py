"""What a round sends, in the background, also while the broker is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from stream.errors import BrokerUnavailable
from tests.fault.answers import Answers
from tests.support.deployment import Deployment, SentUpload
from tests.support.pictures import uploads


@dataclass(frozen=True)
class Shape:
    """How large a round is."""

    uploads: int = 900
    tenants: int = 24
    partitions: int = 6
    encoders: int = 1
    deciders: int = 2
    indexers: int = 1
    # Share of uploads that end as dead letters.
    bad: float = 0.0

    def made(self, seed: int) -> Iterator[SentUpload]:
        """The uploads of a round of this shape."""
        return uploads(self.uploads, seed, self.tenants, self.partitions, bad=self.bad)


class Load:
    """Sends a shape's uploads; `sent` counts those that are on the broker."""

    def __init__(
        self, deployment: Deployment, answers: Answers, shape: Shape, seed: int, note: Callable[..., None]
    ) -> None:
        self._deployment, self._answers, self._shape, self._seed = deployment, answers, shape, seed
        self._note = note
        self._ended = threading.Event()
        self._hurried = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0

    @property
    def over(self) -> bool:
        """Whether nothing more is sent."""
        return self._thread is None or not self._thread.is_alive()

    def join(self) -> None:
        """Wait until all is sent."""
        if self._thread is not None:
            self._thread.join()

    def hurry(self) -> None:
        """Send the rest as fast as it is answered."""
        self._hurried.set()

    def close(self) -> None:
        """Send no more."""
        self._ended.set()

    def flow(self, backlog: int = 250, rate: float = 0.0) -> None:
        """Send the shape's uploads, so that `backlog` of them are unanswered at most.

        Args:
            rate: so many a second, in bursts, however fast they are answered; as many as the backlog allows if not set.
        """
        made, begun = self._shape.made(self._seed), time.monotonic()

        def early() -> bool:
            return rate > 0 and not self._hurried.is_set() and self.sent > rate * (time.monotonic() - begun)

        def run() -> None:
            while batch := list(islice(made, backlog // 5)):
                self._send_surely(batch)
                while self.sent - self._answers.count > backlog or early():
                    if self._ended.wait(0.05):
                        return

        self._start(run)

    def send(self, spread_s: float = 0.0, made: Iterator[SentUpload] | None = None, batch: int | None = None) -> None:
        """Send the shape's uploads: half at once, the rest spread over this time.

        Args:
            made: other uploads than those of `tests.support.pictures`; an iterator that waits sets the pace itself.
            batch: how many are sent together; a fortieth of the shape's if not set.
        """
        shape = self._shape
        made = made or shape.made(self._seed)
        size = batch or max(1, shape.uploads // 40)

        def run() -> None:
            taken = 0
            while waiting := list(islice(made, size)):
                self._send_surely(waiting)
                taken += len(waiting)
                if taken > shape.uploads // 2 and self._ended.wait(spread_s / 20):
                    return

        self._start(run)

    def _start(self, run: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def _send_surely(self, batch: Sequence[SentUpload]) -> None:
        """Send until the broker has all; what arrived twice is the sender's repeat, and judged as one."""
        sure = True
        while not self._ended.is_set():
            try:
                self._deployment.send(batch)
                self.sent = self.sent + len(batch) if sure else self._deployment.arrived()
            except BrokerUnavailable as error:
                self._note("sent again", why=str(error))
                sure = False
            else:
                return
