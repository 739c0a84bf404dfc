"""A partition that is read no more is noticed, and none that is merely quiet, slow or waiting behind others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stream.kafka.silence import CONFIRMED_S, DOUBLED_MAX, FAILED_WAIT_S, LOOK_EVERY_S, SILENT_S, Look, Silence

END = 100


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


def look(*, behind: bool = True, nothing_came: bool = False, fetched: Mapping[int, int] | None = None) -> Look:
    """At partition 0, whose log ends at 100 and was fetched up to 5."""
    return Look(behind, END, nothing_came, fetched or {0: 5, 1: 10})


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
    clock.pass_by(LOOK_EVERY_S)
    assert silence.due() == 0
    clock.pass_by(LOOK_EVERY_S)
    assert silence.due() is None


def test_behind_three_times_while_nothing_came(silence: Silence, clock: Clock) -> None:
    clock.pass_by(SILENT_S)
    found = []
    for _ in range(3):
        assert silence.due() == 0
        found.append(silence.stalled(0, look(nothing_came=True)))
        silence.heard(1)
        clock.pass_by(CONFIRMED_S)
    assert found == [False, False, True]
    assert silence.silent_s(0) == pytest.approx(SILENT_S + 3 * CONFIRMED_S)


def test_left_out_twice_while_others_were_fetched(silence: Silence) -> None:
    """Others have a backlog: the queue is never empty, their ends move with every answer, and this one's does not."""
    found = [silence.stalled(0, look(fetched={0: 5, 1: 10 + n})) for n in range(3)]
    assert found == [False, False, True]


def test_records_that_wait_behind_others_are_no_standstill(silence: Silence) -> None:
    """The local queue is full, so that nobody is fetched."""
    assert not any(silence.stalled(0, look(fetched={0: 5, 1: 10})) for _ in range(20))


def test_fetched_and_waiting_behind_others_is_no_standstill(silence: Silence) -> None:
    assert not any(silence.stalled(0, look(fetched={0: END, 1: 10 + n})) for n in range(20))


def test_an_end_that_is_not_known_yet_proves_nothing(silence: Silence) -> None:
    """Before its first answer librdkafka says -1001; `Reading` puts the place there. A first answer is one movement."""
    found = [silence.stalled(0, look(fetched={0: 5, 1: high})) for high in (10, 5_000, 5_000, 5_000)]
    assert not any(found)


def test_an_empty_queue_long_ago_proves_nothing(silence: Silence) -> None:
    """An idle worker, then a burst: the polls before it were empty."""
    found = [silence.stalled(0, look(nothing_came=empty)) for empty in (True, True, False, True, False)]
    assert not any(found)


def test_what_caught_up_between_two_looks_begins_anew(silence: Silence) -> None:
    for _ in range(2):
        assert not silence.stalled(0, look(nothing_came=True))
    assert not silence.stalled(0, look(behind=False))
    for _ in range(2):
        assert not silence.stalled(0, look(nothing_came=True))
    assert silence.stalled(0, look(nothing_came=True))


def test_a_record_between_two_looks_begins_anew(silence: Silence) -> None:
    for _ in range(2):
        silence.stalled(0, look(nothing_came=True))
    silence.heard(0)
    assert not silence.stalled(0, look(nothing_came=True))


def test_a_look_that_fails_is_not_repeated_at_once(silence: Silence, clock: Clock) -> None:
    """The broker is away, and every look takes its whole time limit; and one partition must not hide the others."""
    clock.pass_by(SILENT_S)
    assert silence.due() == 0
    clock.pass_by(1)
    silence.failed()
    clock.pass_by(FAILED_WAIT_S - 1)
    assert silence.due() is None
    clock.pass_by(1)
    assert silence.due() == 1


def test_taken_anew_in_vain_it_is_left_alone_for_longer_and_longer(silence: Silence, clock: Clock) -> None:
    """Gigabytes of aborted records bring neither a record nor an end; taken anew every time, they are never passed."""
    silence.leave([1])
    waited = []
    for _ in range(DOUBLED_MAX + 2):
        begun = clock.now_s
        while silence.due() is None:
            clock.pass_by(1)
        waited.append(clock.now_s - begun)
        silence.revived(0)
    assert waited == [SILENT_S * 2**n for n in range(DOUBLED_MAX + 1)] + [SILENT_S * 2**DOUBLED_MAX]
    silence.heard(0)
    clock.pass_by(SILENT_S)
    assert silence.due() == 0


def test_a_seek_is_no_sign_that_it_is_read(silence: Silence, clock: Clock) -> None:
    silence.leave([1])
    silence.revived(0)
    silence.begins(0)
    clock.pass_by(SILENT_S)
    assert silence.due() is None


def test_paused_partitions_are_not_watched(silence: Silence, clock: Clock) -> None:
    silence.leave([0, 1])
    clock.pass_by(10 * SILENT_S)
    assert silence.due() is None
    silence.watch([0])
    assert silence.due() is None
    clock.pass_by(SILENT_S)
    assert silence.due() == 0
