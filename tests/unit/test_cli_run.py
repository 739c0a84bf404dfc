"""`dejaview run` ends when it is told to, drains once, and its exit code says whether a stage failed or hangs.

Breaks that these tests catch, each tried: signals not handled; the handler raising at a second signal; `_result`
without its exit; a failure that is printed and exits with 0; `close` only after a `wait` that returns.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Event
from typing import ClassVar

import pytest

from ops.cli.main import main
from stream.config import Settings
from stream.errors import LedgerGap, StageStopped
from stream.service import Stage

WAIT_S = 20.0


class Exited(BaseException):
    """`os._exit` was called."""


class FakeService:
    """A service whose stages do nothing. `wait` sends `signals` to this process and ends when it is told to stop."""

    signals: ClassVar[tuple[signal.Signals, ...]] = ()
    fails: ClassVar[BaseException | None] = None
    breaks: ClassVar[BaseException | None] = None
    drains: ClassVar[bool] = True
    made: ClassVar[list[FakeService]] = []

    def __init__(self, settings: Settings, stages: tuple[Stage, ...]) -> None:
        self.settings = settings
        self.stages = stages
        self.stop = Event()
        self.failure: BaseException | None = None
        self.closed = 0
        self.stopped_by_signal = False
        self.made.append(self)

    def start(self) -> int:
        return 4321

    def wait(self) -> None:
        for number in self.signals:
            os.kill(os.getpid(), number)
        if self.signals:
            self.stopped_by_signal = self.stop.wait(WAIT_S)
        self.failure = self.fails
        if self.breaks is not None:
            raise self.breaks

    def close(self) -> bool:
        self.closed += 1
        return self.drains


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeService]]:
    """The fake in the service's place; this process's own signal handlers come back afterwards."""
    monkeypatch.setattr("stream.service.Service", FakeService)
    monkeypatch.setattr(FakeService, "made", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield FakeService
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_a_second_one_does_no_harm(
    first: signal.Signals,
    service: type[FakeService],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGTERM and Ctrl-C, also several times, stop the service and drain it once: exit code 0, no traceback."""
    monkeypatch.setattr(service, "signals", (first, signal.SIGINT, signal.SIGTERM))
    assert main(["run", "--health.host=127.0.0.9", "--stage", "encode", "--stage", "index"]) == 0
    (made,) = service.made
    assert made.stopped_by_signal
    assert made.closed == 1
    assert made.stages == (Stage.ENCODE, Stage.INDEX)
    said = capsys.readouterr()
    assert said.out == "dejaview runs encode, index; metrics at http://127.0.0.9:4321/metrics\n"
    assert "Traceback" not in said.err


def test_all_stages_run_when_none_is_named(service: type[FakeService]) -> None:
    """Without --stage a run is the whole of dejaview."""
    assert main(["run"]) == 0
    assert service.made[0].stages == tuple(Stage)


@pytest.mark.parametrize("failure", [LedgerGap("the ledger begins at 7"), ValueError("a bug")])
def test_a_stage_that_failed_is_named_and_exits_with_1(
    failure: BaseException,
    service: type[FakeService],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What stopped a stage is the last thing printed, and the exit code tells a supervisor."""
    monkeypatch.setattr(service, "fails", failure)
    assert main(["run"]) == 1
    assert service.made[0].closed == 1
    assert str(failure) in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("failure", [None, StageStopped("why")])
def test_a_stage_that_hangs_does_not_keep_the_process(
    failure: BaseException | None,
    service: type[FakeService],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A drain that did not end exits at once with 1: a thread in a call that never returns cannot be joined."""

    def leave(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(service, "drains", False)
    monkeypatch.setattr(service, "fails", failure)
    monkeypatch.setattr("ops.cli.run.os._exit", leave)
    with pytest.raises(Exited, match="1"):
        main(["run"])
    assert failure is None or str(failure) in capsys.readouterr().err


def test_the_service_is_closed_when_waiting_fails(service: type[FakeService], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends `wait`, the stages are drained before the process goes."""
    monkeypatch.setattr(service, "breaks", StageStopped("the partition count changed"))
    assert main(["run"]) == 1
    assert service.made[0].closed == 1
