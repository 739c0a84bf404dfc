"""What a check finds, and how checks are run: one after the other, each in bounded time, none ending the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from stream.errors import DejaviewError

Look = Callable[[], "Sequence[Finding]"]


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it where there is something to do."""

    check: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One look at something.

    `needs` names checks that must not be broken before. `fix` is what to do when the look itself fails.
    """

    name: str
    look: Look
    needs: tuple[str, ...] = ()
    fix: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    return Finding(check, State.WARNING, found, fix)


def broken(check: str, found: str, fix: str) -> Finding:
    return Finding(check, State.BROKEN, found, fix)


def not_checked(check: str, why: str, fix: str = "") -> Finding:
    return Finding(check, State.NOT_CHECKED, why, fix)


def or_ok(findings: Sequence[Finding], check: str, found: str) -> list[Finding]:
    """The findings, or that all is well when there are none."""
    return list(findings) or [ok(check, found)]


def examine(checks: Sequence[Check], timeout_s: float) -> Iterator[Finding]:
    """Run the checks in their order; what one finds is given out before the next begins.

    Args:
        checks: each after those it needs.
        timeout_s: of each. A look that takes longer is left behind, in a thread that ends with the program.
    """
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        if missing:
            findings = [not_checked(check.name, f"it needs {' and '.join(missing)}")]
        else:
            findings = list(_looked(check, timeout_s))
        if missing or any(finding.state is State.BROKEN for finding in findings):
            failed.add(check.name)
        yield from findings


def _looked(check: Check, timeout_s: float) -> Sequence[Finding]:
    answer: Future[Sequence[Finding]] = Future()
    thread = threading.Thread(target=_look, args=(check.look, answer), name=check.name, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answer.done():
        return [broken(check.name, f"no answer in {timeout_s:g} s", check.fix)]
    try:
        return answer.result()
    except DejaviewError as error:
        return [broken(check.name, str(error), check.fix)]
    except Exception as error:  # noqa: BLE001 - a check that trips must not end the others; it is reported as broken
        return [broken(check.name, f"the check failed: {type(error).__name__}: {error}", "this is a bug: report it")]


def _look(look: Look, answer: Future[Sequence[Finding]]) -> None:
    try:
        answer.set_result(look())
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
        answer.set_exception(error)
