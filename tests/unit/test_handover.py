"""A call in another thread: how it ended is told once, in time, and holds nothing."""

from __future__ import annotations

import gc
import weakref
from threading import Event, Thread

import pytest

from stream.errors import IndexUnavailable
from stream.kafka.handover import Handover, NotEnded


class Held:
    """Whatever a call holds."""


def test_an_end_is_waited_for_no_longer_than_said() -> None:
    """Break: wait without the limit."""
    go_on = Event()
    handover = Handover(go_on.wait)
    thread = Thread(target=handover.run, daemon=True)
    thread.start()
    with pytest.raises(NotEnded):
        handover.wait(0.05)
    go_on.set()
    thread.join(10)
    handover.wait(10)


def test_an_error_is_told_with_its_cause_and_without_its_frames() -> None:
    """Its causes' frames hold as much. Breaks: forget its own alone; those of its causes, and not of its contexts."""
    held: list[weakref.ref[Held]] = []

    def one(name: str) -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        try:
            {"other": 1}[name]
        except KeyError as error:
            raise ValueError(name) from error

    def call() -> None:
        try:
            one("first")
        except ValueError:
            one("second")

    handover = Handover(call)
    gc.collect()
    gc.disable()
    try:
        thread = Thread(target=handover.run)
        thread.start()
        thread.join(10)
        del thread
        with pytest.raises(ValueError, match="second") as raised:
            handover.wait(1)
        assert isinstance(raised.value.__cause__, KeyError)
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()


def test_causes_may_go_in_a_circle() -> None:
    """As pymilvus's do when a collection was dropped: the stage stood still for ever. Break: no set of known ones."""

    def call() -> None:
        first, second = ValueError("first"), KeyError("second")
        first.__cause__, second.__context__ = second, first
        raise first

    handover = Handover(call)
    thread = Thread(target=handover.run, daemon=True)
    thread.start()
    thread.join(10)
    with pytest.raises(ValueError, match="first"):
        handover.wait(1)


def test_where_a_bug_was_is_told() -> None:
    """Its frames are forgotten; an error of dejaview's own says all itself. Breaks: no note; a note to every error."""

    def call_of(error: Exception) -> Handover:
        def failing() -> None:
            raise error

        handover = Handover(failing)
        handover.run()
        return handover

    with pytest.raises(KeyError) as bug:
        call_of(KeyError("x")).wait(1)
    assert "in failing" in bug.value.__notes__[0]
    with pytest.raises(IndexUnavailable) as told:
        call_of(IndexUnavailable("away")).wait(1)
    assert not hasattr(told.value, "__notes__")


def test_a_call_that_timed_out_has_ended() -> None:
    """Break: tell both by TimeoutError."""

    def call() -> None:
        raise TimeoutError

    handover = Handover(call)
    handover.run()
    with pytest.raises(TimeoutError):
        handover.wait(1)
