"""This machine's clock beside those of Kafka and Milvus. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ops.doctor.report import Finding, broken, ok, warning

BROKER_CLOCK, INDEX_CLOCK = "clock of Kafka", "clock of Milvus"

SKEW_WARNING_S = 1.0
SKEW_BROKEN_S = 30.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time that a server stamped, and ours before it was asked and after it had answered. Since the epoch."""

    server_ms: int
    before_ms: int
    after_ms: int

    @property
    def skew_s(self) -> float:
        """How far the server's clock is ahead of ours at least; below 0 it is behind."""
        if self.server_ms > self.after_ms:
            return (self.server_ms - self.after_ms) / 1000
        return min(0, self.server_ms - self.before_ms) / 1000


def judge_clock(check: str, server: str, stamp: Stamp) -> Finding:
    skew_s = stamp.skew_s
    if abs(skew_s) <= SKEW_WARNING_S:
        return ok(check, f"within {SKEW_WARNING_S:g} s of this machine's")
    found = f"{server} is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine"
    fix = f"set the clocks of this machine and of {server} by NTP; latencies, `--since` and retention go by them"
    judge = broken if abs(skew_s) > SKEW_BROKEN_S else warning
    return judge(check, found, fix)
