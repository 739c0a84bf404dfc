"""Made-up series for every alert: when it fires, and when it must not. A value a minute, from time 0 on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LATENCY = "dejaview_upload_to_verdict_seconds"
OLDEST = "dejaview_oldest_unjudged_upload_timestamp_seconds"
WINDOWS = ("1h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Case:
    """`series` (promtool's notation) make `alert` fire at the minute `at`, with these labels each, or not at all.

    Except for `LEVELS` it is the first minute at which it does, or the one after: groups have no order.
    """

    alert: str
    what: str
    series: Mapping[str, str]
    at: int
    fires: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.alert}: {self.what}"


def series(name: str, **labels: str) -> str:
    """A series of the job j in the namespace n."""
    listed = {"namespace": "n", "job": "j", "instance": "a", **labels}
    return notation(name, listed)


def notation(name: str, labels: Mapping[str, str]) -> str:
    """A series as Prometheus writes it."""
    return f"{name}{{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def fired(severity: str, **labels: str) -> Mapping[str, str]:
    return {"namespace": "n", "job": "j", "severity": severity, **labels}


READY = series("dejaview_ready")
HERE = {READY: "1x100"}


def lags(**of: str) -> dict[str, str]:
    return {series("dejaview_consumer_lag_records", stage=stage): values for stage, values in of.items()}


def over(series_name: str, **of: str) -> dict[str, str]:
    """A runtime that was passed over for these reasons; or any series by its runtime."""
    return {series(series_name, runtime="tensorrt", why=why): values for why, values in of.items()}


PASSED_OVER = "dejaview_runtime_passed_over"
STARTS = series("process_start_time_seconds")

THERE = (
    Case("DejaviewAbsent", "never seen", {}, 5, ({"severity": "page"},)),
    Case("DejaviewAbsent", "all gone", {READY: "1x10 _x30"}, 21, (fired("page"),)),
    Case("DejaviewAbsent", "one of two deployments gone",
         {READY: "1x10 _x30", series("dejaview_ready", job="k"): "1x40"}, 21, (fired("page"),)),
    Case("DejaviewAbsent", "there", HERE, 25),
    Case("DejaviewAbsent", "three scrapes lost", {READY: "1x10 _x3 1x30"}, 25),
    *(
        Case("DejaviewStageAbsent", f"no {gone}",
             HERE | lags(**{stage: "0x30" for stage in ("encode", "decide", "index") if stage != gone}), 5,
             (fired(severity, stage=gone),))
        for gone, severity in {"encode": "page", "decide": "page", "index": "ticket"}.items()
    ),
    Case("DejaviewStageAbsent", "all there", HERE | lags(encode="0x30", decide="3x30", index="0x30"), 10),
    Case("DejaviewStageAbsent", "a restart", HERE | lags(encode="0x5 _x7 0x30", decide="3x30", index="0x30"), 14),
    Case("DejaviewWorkerNotReady", "for long", {READY: "0x30"}, 15, (fired("ticket", instance="a"),)),
    Case("DejaviewWorkerNotReady", "a slow start", {READY: "0x10 1x30"}, 16),
    Case("DejaviewWorkerRestarts", "a crash loop", {STARTS: "1 1 60 60 120 120 180 180 240x9", READY: "0x20"}, 8,
         (fired("ticket", instance="a"),)),
    Case("DejaviewWorkerRestarts", "two restarts", {STARTS: "1 1 60 60 120x20", READY: "0x20"}, 10),
    Case("DejaviewWorkerRestarts", "another program's", {STARTS: "1 1 60 60 120 120 180 180 240x9"}, 10),
)  # fmt: skip

FLOW = (
    Case("DejaviewStageStuck", "takes none", lags(decide="5+1x30") | {
        series("dejaview_events_total", stage="decide"): "70x30"}, 5, (fired("page", instance="a", stage="decide"),)),
    Case("DejaviewStageStuck", "never took one", lags(encode="5x30"), 5,
         (fired("page", instance="a", stage="encode"),)),
    Case("DejaviewStageStuck", "behind and busy",
         lags(decide="5+1x30") | {series("dejaview_events_total", stage="decide"): "0+9x30"}, 20),
    Case("DejaviewStageStuck", "nothing waits", lags(encode="0x30", decide="0x30"), 20),
    Case("DejaviewStageStuck", "INDEX", lags(index="9x30"), 20),
    Case("DejaviewPartitionRevived", "one", {series("dejaview_revived_partitions", stage="decide"): "0x5 1x30"}, 6,
         (fired("ticket", stage="decide"),)),
    Case("DejaviewPartitionRevived", "long ago", {series("dejaview_revived_partitions", stage="decide"): "1x40"}, 30),
    Case("DejaviewUploadsHeldBack", "one is held", {series(OLDEST, stage="encode"): "1x40"}, 17,
         (fired("ticket", stage="encode"),)),
    Case("DejaviewUploadsHeldBack", "they pass", {series(OLDEST, stage="encode"): "1+60x40"}, 20),
    Case("DejaviewUploadsHeldBack", "none", {series(OLDEST, stage="encode"): "0x40"}, 20),
    Case("DejaviewRetentionNear", "half is gone", {
        series(OLDEST, stage="decide"): "1x40", series("dejaview_topic_retention_seconds", stage="decide"): "1200x40",
    }, 17, (fired("page", stage="decide"),)),
    Case("DejaviewRetentionNear", "far", {
        series(OLDEST, stage="decide"): "1x40", series("dejaview_topic_retention_seconds", stage="decide"): "90000x40",
    }, 30),
    Case("DejaviewRetentionNear", "kept for ever", {
        series(OLDEST, stage="decide"): "1x40", series("dejaview_topic_retention_seconds", stage="decide"): "Inf " * 40,
    }, 30),
    Case("DejaviewKafkaUnreachable", "fails on", {series("dejaview_broker_errors_total", stage="encode"): "0+1x20"}, 6,
         (fired("ticket", stage="encode"),)),
    Case("DejaviewKafkaUnreachable", "once", {series("dejaview_broker_errors_total", stage="encode"): "0x5 1x20"}, 11),
)  # fmt: skip

INDEX = (
    Case("DejaviewIndexUnreachable", "fails on", {series("dejaview_index_errors_total", stage="decide"): "0+1x20"}, 4,
         (fired("ticket", stage="decide"),)),
    Case("DejaviewIndexUnreachable", "once", {series("dejaview_index_errors_total", stage="decide"): "0x3 1x20"}, 7),
    Case("DejaviewIndexBehind", "more than half full", {series("dejaview_window_fill_ratio"): "0.6x20"}, 5,
         (fired("ticket"),)),
    Case("DejaviewIndexBehind", "less", {series("dejaview_window_fill_ratio"): "0.4x20"}, 16),
)  # fmt: skip

GPU, CPU = (
    series("dejaview_build_info", instance=where, runtime=what)
    for where, what in (("g", "tensorrt"), ("c", "openvino"))
)
NONE = {series("dejaview_build_info", runtime="none"): "1x100"}


def sandbox(restarts: str, uploads: str) -> dict[str, str]:
    return {
        series("dejaview_decoder_restarts"): restarts,
        series("dejaview_events_total", stage="encode"): uploads,
    }


ENCODER = (
    Case("DejaviewModelParityFailed", "auto passed it over", over(PASSED_OVER, parity_failed="1x9"), 0,
         (fired("ticket", runtime="tensorrt"),)),
    Case("DejaviewModelParityFailed", "no GPU", over(PASSED_OVER, no_gpu="1x9"), 5),
    Case("DejaviewRuntimePassedOver", "its driver is too old", over(PASSED_OVER, driver_too_old="1x9"), 0,
         (fired("ticket", runtime="tensorrt", why="driver_too_old"),)),
    Case("DejaviewRuntimePassedOver", "as on most machines",
         over(PASSED_OVER, not_installed="1x9", no_gpu="1x9", parity_failed="1x9"), 5),
    Case("DejaviewFellBackToCpu", "one of them", NONE | {GPU: "1x100", CPU: "1x100"}, 30, (fired("ticket"),)),
    Case("DejaviewFellBackToCpu", "the only one", NONE | {GPU: "1x10 _x90", CPU: "_x10 1x90"}, 40, (fired("ticket"),)),
    Case("DejaviewFellBackToCpu", "CPUs only", NONE | {CPU: "1x100"}, 60),
    Case("DejaviewFellBackToCpu", "GPUs only", NONE | {GPU: "1x100"}, 60),
    Case("DejaviewSandboxCrashLoop", "one in twenty", sandbox("0+5x40", "0+100x40"), 13, (fired("ticket"),)),
    Case("DejaviewSandboxCrashLoop", "one in two thousand", sandbox("0+5x40", "0+10000x40"), 30),
    Case("DejaviewSandboxCrashLoop", "a few", sandbox("0+0.5x40", "0+2x40"), 30),
)  # fmt: skip


def verdicts(review: str, unique: str) -> dict[str, str]:
    return {series("dejaview_verdicts_total", verdict=v): n for v, n in (("review", review), ("unique", unique))}


def letters(reason: str, count: str, answers: str) -> dict[str, str]:
    return {series("dejaview_dead_letters_total", reason=reason): count, series(f"{LATENCY}_count"): answers}


QUALITY = (
    Case("DejaviewReviewOverBudget", "one in ten", verdicts("0+1x200", "0+9x200"), 81, (fired("ticket"),)),
    Case("DejaviewReviewOverBudget", "one in a hundred", verdicts("0+1x200", "0+99x200"), 150),
    Case("DejaviewReviewOverBudget", "few at all", verdicts("0+0.1x200", "0+0.9x200"), 150),
    Case("DejaviewDeadLetterShare", "one in five", letters("bad_image", "0+2x60", "0+10x60"), 26, (fired("ticket"),)),
    Case("DejaviewDeadLetterShare", "one in a hundred", letters("bad_image", "0+1x60", "0+100x60"), 50),
    Case("DejaviewDeadLetterShare", "few at all", letters("bad_image", "0+0.2x60", "0+1x60"), 50),
)  # fmt: skip


def burns(*windows: str) -> tuple[Mapping[str, str], ...]:
    """What fires, by the long window."""
    return tuple(fired("page" if window in {"1h", "6h"} else "ticket", window=window) for window in windows)


def slow(fast: str, answers: str) -> dict[str, str]:
    return {series(f"{LATENCY}_bucket", le="0.25"): fast, series(f"{LATENCY}_count"): answers}


def waits(stage: str, oldest: str, lag: str = "5x110") -> dict[str, str]:
    return {series(OLDEST, stage=stage): oldest} | lags(**{stage: lag})


BAD = {
    "DejaviewAnswersSlow": slow("0+100x110", "0+1000x110"),
    "DejaviewUploadsNotJudged": letters("foreign_model", "0+900x110", "0+1000x110"),
    "DejaviewUploadsWait": waits("decide", "1x110"),
}
# The faster the budget burns, the more of the four windows say so.
LEVELS = (
    *(
        Case("DejaviewAnswersSlow", f"{1000 - fast} of 1000", slow(f"0+{fast}x110", "0+1000x110"), 100,
             burns(*WINDOWS[first:]))
        for first, fast in enumerate((800, 900, 960, 980, 995))
    ),
    Case("DejaviewAnswersSlow", "over for some minutes", slow("0+800x60 48800+1000x20", "0+1000x110"), 68,
         burns("6h", "1d", "3d")),
    Case("DejaviewAnswersSlow", "few at all", slow("0+0.08x110", "0+0.1x110"), 100),
    Case("DejaviewAnswersSlow", "nothing asked", slow("500x110", "1000x110"), 100),
    *(
        Case("DejaviewUploadsNotJudged", f"{bad} of 10000", letters("store_unavailable", f"0+{bad}x110", "0+10000x110"),
             100, burns(*WINDOWS[first:]))
        for first, bad in enumerate((200, 100, 40, 20, 5))
    ),
    Case("DejaviewUploadsNotJudged", "the senders' fault", letters("bad_image", "0+900x110", "0+1000x110"), 100),
    Case("DejaviewUploadsNotJudged", "few", letters("foreign_model", "0+0.05x110", "0+0.1x110"), 100),
    Case("DejaviewUploadsWait", "for 3 minutes", BAD["DejaviewUploadsWait"], 3),
    Case("DejaviewUploadsWait", "DECIDE", waits("decide", "1x110"), 100, burns(*WINDOWS)),
    Case("DejaviewUploadsWait", "ENCODE", waits("encode", "1x110"), 100, burns(*WINDOWS)),
    *(
        Case(alert, f"for {minutes} minutes", series, minutes, burns(*WINDOWS[:last]))
        for alert, series in BAD.items()
        for minutes, last in ((2, 0), (5, 1), (10, 2), (30, 3), (60, 3), (63, 4))
    ),
    Case("DejaviewUploadsWait", "over for an hour", waits("decide", "1x30 0x80"), 100, burns("1d", "3d")),
    Case("DejaviewUploadsWait", "one reference alone", waits("encode", "1x110", "0x110"), 100),
    Case("DejaviewUploadsWait", "behind, not for long", waits("decide", "0+60x110"), 100),
    Case("DejaviewUploadsWait", "nothing waits", waits("decide", "0x110", "0x110"), 100),
)  # fmt: skip

CASES = (*THERE, *FLOW, *INDEX, *ENCODER, *QUALITY, *LEVELS)
