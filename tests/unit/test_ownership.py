"""Offsets outside of transactions are committed now and then, and at the latest when a partition leaves."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from stream.config import Settings
from stream.errors import BatchAborted, BrokerUnavailable, DejaviewError
from stream.ownership import PAY_EVERY_S, Ownership
from tests.support.made import rule_of


class Group:
    """Stands for the group consumer: notes what is committed, or fails."""

    def __init__(self) -> None:
        self.committed: list[dict[int, int]] = []
        self.fails: DejaviewError | None = None

    def commit(self, offsets: Mapping[int, int]) -> None:
        if self.fails is not None:
            raise self.fails
        if offsets:
            self.committed.append(dict(offsets))


class Bench:
    """An ownership over a clock and a group."""

    def __init__(self) -> None:
        self.now = 100.0
        self.group = Group()
        view: Any = SimpleNamespace(close=lambda _partition: None)
        self.ownership = Ownership(Settings().decide, view, SimpleNamespace(), rule_of, lambda: self.now)  # type: ignore[arg-type]
        self.ownership.use(self.group)  # type: ignore[arg-type]
        self.ownership.assigned([0, 1, 2])


def test_offsets_are_committed_now_and_then() -> None:
    """A batch does not wait for a round trip. Break: pay whatever the clock says."""
    bench = Bench()
    bench.ownership.owe({0: 5, 1: 7})
    bench.ownership.pay()
    bench.ownership.owe({0: 6})
    bench.ownership.pay()
    assert bench.group.committed == [{0: 5, 1: 7}]
    bench.now += PAY_EVERY_S
    bench.ownership.pay()
    bench.now += PAY_EVERY_S
    bench.ownership.pay()
    assert bench.group.committed[1:] == [{0: 6}]


def test_a_partition_that_leaves_is_paid_for_first() -> None:
    """And one that is lost is not: another owns it. Breaks: forget without paying; pay in `lost`."""
    bench = Bench()
    bench.ownership.owe({0: 5, 1: 7, 2: 9})
    bench.ownership.revoked([0])
    assert bench.group.committed == [{0: 5}]
    bench.ownership.lost([1])
    bench.ownership.pay()
    assert bench.group.committed[1:] == [{2: 9}]


@pytest.mark.parametrize("error", [BatchAborted("rebalance"), BrokerUnavailable("away")])
def test_what_could_not_be_committed_stays_owed(error: DejaviewError) -> None:
    """Break: clear what is owed before the commit."""
    bench = Bench()
    bench.ownership.owe({0: 5})
    bench.group.fails = error
    if isinstance(error, BrokerUnavailable):
        with pytest.raises(BrokerUnavailable):
            bench.ownership.pay()
    else:
        bench.ownership.pay()
    bench.ownership.revoked([1])
    bench.group.fails = None
    bench.now += PAY_EVERY_S
    bench.ownership.pay()
    assert bench.group.committed == [{0: 5}]


def test_a_revocation_goes_through_when_the_commit_does_not() -> None:
    """The group would wait for this member. Break: let the error out."""
    bench = Bench()
    bench.ownership.owe({0: 5})
    bench.group.fails = BrokerUnavailable("away")
    bench.ownership.revoked([0])
    assert [owned.number for owned in bench.ownership.all] == [1, 2]
