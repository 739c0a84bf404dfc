"""A call that another thread makes, and whose end is told once."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from queue import Empty, SimpleQueue

from stream.errors import DejaviewError


class NotEnded(Exception):
    """The call goes on."""


class Handover:
    """One call: `run` makes it, in another thread; `wait` tells how it ended, in the thread that handed it over.

    A `Future` keeps its error, and the error's traceback the frames of whoever asked for it, the future among them:
    a circle that is freed late, and with it whatever those frames hold. A producer that has failed must be freed at
    once: it would go on by itself when the broker is back, and fence the one that follows.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            if not isinstance(error, DejaviewError):
                # As text it holds nothing. An error of dejaview's own says all by itself.
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
            # Without tracebacks: they hold this frame, and this frame the call and all that it holds.
            _forget_frames(error)
            self._ended.put(error)
        else:
            self._ended.put(None)

    def wait(self, limit_s: float) -> None:
        """Wait for the end; again only after NotEnded.

        Raises:
            NotEnded: not in this time.
            Whatever the call raised.
        """
        try:
            error = self._ended.get(timeout=limit_s)
        except Empty:
            raise NotEnded from None
        try:
            if error is not None:
                raise error
        finally:
            # An error that a frame of its own traceback holds is such a circle, too.
            del error


def _forget_frames(error: BaseException) -> None:
    """Also those of its causes and contexts, which may go in a circle."""
    known: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        found = left.pop()
        if found is not None and id(found) not in known:
            known.add(id(found))
            found.__traceback__ = None
            left += [found.__cause__, found.__context__]
