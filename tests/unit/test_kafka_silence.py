"""A partition that is read no more is noticed, and none that is merely quiet, slow or waiting behind others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stream.kafka.silence import CONFIRMED_S, LOOK_EVERY_S, SILENT_S, Silence


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silence(clock: Clock) -> Silence:
    made = Silence(clock)
    made.watch([0, 1])
    return made


def look(silence: Silence, *, behind: bool = True, places: Mapping[int, int] | None = None) -> bool:
    """A look at partition 0; what had been fetched of partition 1 ended at 10."""
    return silence.stalled(0, behind=behind, fetched={0: 5, 1: 10}, places=places or {0: 5, 1: 10})


def test_nobody_is_looked_at_while_records_come(silence: Silence, clock: Clock) -> None:
    for _ in range(5):
        clock.pass_by(SILENT_S - 1)
        silence.heard(0)
        silence.heard(1)
        assert silence.due() is None


def test_the_one_looked_at_longest_ago_comes_first_and_looks_are_spread(silence: Silence, clock: Clock) -> None:
    clock.pass_by(1)
    silence.heard(0)
    clock.pass_by(SILENT_S + 1)
    assert silence.due() == 1
    assert silence.due() is None
    silence.stalled(1, behind=False, fetched={}, places={})
    clock.pass_by(LOOK_EVERY_S)
    assert silence.due() == 0


def test_behind_twice_and_the_queue_was_empty_between(silence: Silence, clock: Clock) -> None:
    clock.pass_by(SILENT_S)
    assert not look(silence)
    clock.pass_by(CONFIRMED_S)
    silence.emptied()
    assert silence.due() == 0  # before the other, which is not known to be behind
    assert look(silence)
    assert silence.silent_s(0) == pytest.approx(SILENT_S + CONFIRMED_S)


def test_behind_twice_and_another_partition_brought_what_was_fetched_later(silence: Silence, clock: Clock) -> None:
    assert not look(silence)
    clock.pass_by(CONFIRMED_S)
    assert look(silence, places={0: 5, 1: 11})


def test_records_that_wait_behind_others_are_no_standstill(silence: Silence, clock: Clock) -> None:
    """A worker with a backlog: the queue never empties and is as old as the first look."""
    for _ in range(20):
        assert not look(silence, places={0: 5, 1: 10})
        clock.pass_by(CONFIRMED_S)


def test_an_empty_queue_before_the_fetch_had_time_proves_nothing(silence: Silence, clock: Clock) -> None:
    assert not look(silence)
    silence.emptied()
    clock.pass_by(CONFIRMED_S)
    assert not look(silence)


def test_what_caught_up_between_two_looks_begins_anew(silence: Silence, clock: Clock) -> None:
    assert not look(silence)
    clock.pass_by(CONFIRMED_S)
    silence.emptied()
    assert not look(silence, behind=False)
    assert not look(silence)


def test_a_record_between_two_looks_begins_anew(silence: Silence, clock: Clock) -> None:
    assert not look(silence)
    clock.pass_by(CONFIRMED_S)
    silence.heard(0)
    silence.emptied()
    assert not look(silence)


def test_paused_partitions_are_not_watched(silence: Silence, clock: Clock) -> None:
    silence.leave([0, 1])
    clock.pass_by(10 * SILENT_S)
    assert silence.due() is None
    silence.watch([0])
    assert silence.due() is None
    clock.pass_by(SILENT_S)
    assert silence.due() == 0
