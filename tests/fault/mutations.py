"""Breaks the program on purpose, promise by promise, and sees the promise's test fail.

    python -m tests.fault.mutations             all of them
    python -m tests.fault.mutations R3 R7       some
    python -m tests.fault.mutations --whole     also run each test over the whole program, which must pass

A break is killed when its test fails, and fails by saying what the break does: a test that fails for another
reason (a worker that does not start, say) proves nothing. `docs/reliability.md` carries the table.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.support.breaks import BREAKS
from tests.support.deployment import ROOT
from tests.support.sabotage import BREAK

_ROUND = "tests/fault/test_rounds.py::test_every_fault"
_STEP = "tests/fault/test_steps.py::test_a_crash_at_a_step_changes_nothing"
_SWARM = "tests/fault/test_swarm.py::test_groups_interleaved_over_tenants"
_AWAY = "tests/fault/test_index_faults.py::test_an_index_that_does_not_answer"
_LOST = "tests/fault/test_index_losses.py::test_an_index_that_lost_something"
_OLD_TOPIC = "tests/fault/test_logs.py::test_an_offset_of_the_old_topic_is_not_one_of_the_new"
_ANEW = "tests/fault/test_logs.py::test_a_topic_created_anew_under_the_workers_stops_them"
_READING = "tests/service/test_reading.py"
_POISON = "tests/service/test_poison.py::test_poison_of_every_kind_is_last_and_the_partition_goes_on"
_HANGS = "tests/service/test_poison.py::test_a_decoder_that_hangs"
_OVERLOAD = "tests/fault/test_overload.py::test_overload_with_a_slow_index"
_HUNG = "tests/fault/test_shutdown.py::test_shutdown_while_a_server_hangs"
_SIGNALS = "tests/fault/test_shutdown.py::test_more_signals_during_the_drain"
_HELD = "tests/fault/test_held_back.py::test_a_dead_decider_holds_readers_back_for_a_bounded_time"
_TENANTS = "tests/service/test_main_path.py::test_tenants_do_not_see_each_other"
_BEGINS_AGAIN = "tests/unit/test_commit.py::test_a_ledger_that_begins_again_is_not_written_to"
_DIFFER = r"differ from the offline judge"
_FAILED = 1
# The test's own scene did not come about: that proves nothing.
_NO_PROOF = re.compile(r"^E .*\bno hit\b", re.MULTILINE)


@dataclass(frozen=True)
class Mutation:
    """One break, the test that must fail, and what it must say."""

    promise: str
    name: str
    test: str
    says: str


TABLE = (
    Mutation("R1", "encode-commits-what-it-took", f"{_ROUND}[kill-encode]", r"lost: \d+|\d+ of 12\d\d"),
    Mutation("R1", "offsets-without-a-topic", f"{_OLD_TOPIC}[decide-fingerprints]", r"TimeoutExpired"),
    Mutation(
        "R1", "overtake-the-fetch", f"{_READING}::test_a_partition_taken_anew_is_read", r"assert \{.*|outdated op"
    ),
    Mutation("R1", "trust-the-client", f"{_READING}::test_a_resume_that_was_lost_is_noticed", r"not within 20 s"),
    Mutation("R2", "offsets-outside-the-transaction", f"{_STEP}[commit.6]", r"duplicated: \d+"),
    Mutation("R2", "forgetful-restore", f"{_STEP}[commit.7]", rf"contradictory: \d+|{_DIFFER}"),
    Mutation("R3", "no-window", f"{_SWARM}[calm]", rf"{_DIFFER}|'unique': \d+"),
    Mutation("R3", "trust-the-index", f"{_SWARM}[calm]", rf"{_DIFFER}|'unique': \d+"),
    Mutation("R3", "any-ledger-offset", _BEGINS_AGAIN, "DID NOT RAISE"),
    Mutation("R3", "topics-unwatched", f"{_ANEW}[fingerprints]", r"TimeoutExpired"),
    Mutation("R4", "fail-open", f"{_AWAY}[stopped-12.0]", r"not within \d+ s: not ready|answered without an index"),
    Mutation("R4", "ignore-fall-back", f"{_LOST}[dropped-without-index-stage]", _DIFFER),
    Mutation("R5", "raise-on-a-bad-event", _POISON, r"RuntimeError: \S+ \w+"),
    Mutation("R6", "no-limits-around-the-decoder", _HANGS, r"not within 60 s"),
    Mutation("R7", "connect-anywhere", "tests/unit/test_intake_https.py", r"DID NOT RAISE ItemError"),
    Mutation("R8", "take-without-end", _OVERLOAD, r"MB over the bound|assert \d+\.0 <= 32000000"),
    Mutation("R9", "wait-for-ever", _HUNG, r"still there"),
    Mutation("R9", "second-signal-kills", _SIGNALS, r"AssertionError: \{.*-(15|2)\b"),
    Mutation("R9", "long-transactions", f"{_HELD}[KILL]", r"assert \d+\.\d+ <= \d+"),
    Mutation("R10", "swap-colours", "tests/unit/test_models_encoder.py", r"does not reproduce the golden vectors"),
    Mutation("R11", "no-tenant-filter", _TENANTS, r"Counter\(\{'duplicate': [67]\}\)"),
    Mutation(
        "R11", "one-window-for-all", "tests/unit/test_fuzz_tenants.py", r"candidates of tenants \[.*\] for an item"
    ),
)


def pytest_of(mutation: Mutation, *, broken: bool) -> tuple[int, str]:
    """Run the test; its exit status and what it said."""
    environment = {name: value for name, value in os.environ.items() if name != BREAK}
    if broken:
        environment[BREAK] = mutation.name
    command = [sys.executable, "-m", "pytest", mutation.test, "-q", "-rfE", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def verdict_on(mutation: Mutation) -> tuple[bool, str]:
    """Whether the break was killed, and how it showed."""
    status, said = pytest_of(mutation, broken=True)
    if status == 0:
        return False, "SURVIVED: the test passed"
    if status != _FAILED:
        return False, f"NOT RUN: {said.strip().splitlines()[-1]}"
    shown = re.search(mutation.says, said, re.MULTILINE)
    if shown is None or _NO_PROOF.search(said):
        return False, f"failed for another reason: {[line for line in said.splitlines() if line.startswith('E  ')][:3]}"
    return True, f"killed: {shown.group()[:120]}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("promises", nargs="*", help="R1 … R11, or names of breaks; all if none is named")
    parser.add_argument("--whole", action="store_true", help="also run each test over the whole program")
    args = parser.parse_args(arguments)
    unknown = [m.name for m in TABLE if m.name not in BREAKS]
    if unknown:
        parser.error(f"no such breaks: {unknown}")
    survived = 0
    for mutation in TABLE:
        if args.promises and not {mutation.promise, mutation.name} & {*args.promises}:
            continue
        begun = time.monotonic()
        killed, how = verdict_on(mutation)
        if killed and args.whole and pytest_of(mutation, broken=False)[0] != 0:
            killed, how = False, "the test fails without the break, too"
        survived += not killed
        line = f"{mutation.promise:4} {mutation.name:32} {how} ({time.monotonic() - begun:.0f} s)"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    sys.stdout.write("every break was killed\n" if not survived else f"{survived} breaks were not killed\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
