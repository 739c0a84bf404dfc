"""Grafana's dashboards: the chart's `files/dashboards/*.json`, written by `python -m charts.generate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from charts.levels import STALE_S, TARGET_S
from charts.panels import CHOSEN, Panel, Row, dashboard, of, quantile, rate

_LATENCY = "dejaview_upload_to_verdict_seconds"
_STEP = "dejaview_step_seconds"
_DEAD = "dejaview_dead_letters_total"
_VERDICTS = "dejaview_verdicts_total"
_TARGET = f"{TARGET_S * 1000:g} ms"


def dashboards() -> Mapping[str, dict[str, Any]]:
    """By the name of the file."""
    return {
        "overview": dashboard("dejaview-overview", "dejaview: overview", "Are users fine?", _overview()),
        "latency": dashboard("dejaview-latency", "dejaview: latency", "Where the time goes.", _latency()),
        "verdicts": dashboard("dejaview-verdicts", "dejaview: verdicts", "What is said of uploads.", _verdicts()),
        "index": dashboard("dejaview-index", "dejaview: index", "Milvus, and what it does not hold yet.", _index()),
        "workers": dashboard("dejaview-workers", "dejaview: workers", "Every process.", _workers()),
    }


def dashboard_text(content: Mapping[str, Any]) -> str:
    """A file."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _share(part: str, whole: str) -> str:
    return f"sum({part}) / sum({whole})"


def _figure(title: str, query: str, unit: str, limits: tuple[float, float] | None = None) -> Panel:
    return Panel(title, {query: ""}, unit, "stat", width=4, height=4, limits=limits)


def _in_time(window: str) -> str:
    fast, answers = of(f"{_LATENCY}_bucket", le=f"{TARGET_S:g}"), of(f"{_LATENCY}_count")
    return _share(f"rate({fast}[{window}])", f"rate({answers}[{window}])")


def _overview() -> list[Row]:
    firing = f'sum(ALERTS{{alertname=~"Dejaview.+", alertstate="firing", {CHOSEN}}}) or vector(0)'
    ready = f"sum({of('dejaview_ready')}) / count({of('dejaview_ready')})"
    letters = _share(f"rate({of(_DEAD)}[1h])", f"rate({of(f'{_LATENCY}_count')}[1h])")
    fine = [
        _figure(f"Answered within {_TARGET}, 1 h", _in_time("1h"), "percentunit", (0.99, 0.95)),
        _figure("Longest wait now", f"max({of('dejaview:lag:seconds', stage='decide')})", "s", (10, STALE_S)),
        _figure("Answers per second", f"sum({rate(f'{_LATENCY}_count')})", "cps"),
        _figure("Dead letters, 1 h", letters, "percentunit", (0.01, 0.05)),
        _figure("Workers ready", ready, "percentunit", (1, 0.5)),
        _figure("Alerts firing", firing, "short", (1, 2)),
    ]
    budgets = {f"max({of(f'dejaview:{level}:ratio_3d')})": legend for level, legend in (
        ("slow", "slow, of 1 %"), ("failed", "not judged, of 0.1 %"), ("stale", "waiting, of 0.1 %"))}  # fmt: skip
    return [
        Row("Are users fine?", fine),
        Row("Traffic", [
            Panel("Answers", {f"sum by (verdict) ({rate(_VERDICTS)})": "{{verdict}}",
                              f"sum({rate(_DEAD)})": "dead letter"}, "cps", width=12, stacked=True),
            Panel("Upload to verdict", {quantile(q, _LATENCY): name for q, name in (
                (0.5, "half of them"), (0.99, "99 %"))}, "s", width=12),
        ]),
        Row("Behind, and how much", [
            Panel("Longest wait by stage", {f"max by (stage) ({of('dejaview:lag:seconds')})": "{{stage}}"}, "s"),
            Panel("Records behind", {f"sum by (stage) ({of('dejaview_consumer_lag_records')})": "{{stage}}"}),
            Panel("Error budgets used, 3 days", budgets, "percentunit"),
        ]),
    ]  # fmt: skip


def _latency() -> list[Row]:
    def steps(stage: str, q: float) -> Panel:
        name = "half" if q == 0.5 else f"{q:.0%}"  # noqa: PLR2004 - the median
        query = quantile(q, _STEP, "le, step", stage=stage)
        return Panel(f"Steps of {stage.upper()}, {name}", {query: "{{step}}"}, "s")

    items = (
        f"sum by (stage) ({rate('dejaview_batch_items_sum')}) / sum by (stage) ({rate('dejaview_batch_items_count')})"
    )
    burn = {f"max({of(f'dejaview:slow:ratio_{window}')})": window for window in ("5m", "1h", "6h", "3d")}
    return [
        Row("Upload to verdict", [
            Panel("Quantiles", {quantile(q, _LATENCY): f"{q:.0%}" for q in (0.5, 0.9, 0.99)}, "s", width=12),
            Panel("How long uploads took", {f"sum by (le) (increase({of(f'{_LATENCY}_bucket')}[$__rate_interval]))":
                                            "{{le}}"}, "s", "heatmap", 12),
            Panel(f"Share answered within {_TARGET}", {_in_time("$__rate_interval"): "share"}, "percentunit", width=12),
            Panel(f"Share later than {_TARGET}, by window", burn, "percentunit", width=12),
        ]),
        Row("Half of the calls", [steps(stage, 0.5) for stage in ("encode", "decide", "index")]),
        Row("The slowest of a hundred", [steps(stage, 0.99) for stage in ("encode", "decide", "index")]),
        Row("Batches", [
            Panel("Items in a batch", {items: "{{stage}}"}, width=12),
            Panel("Uploads in flight in ENCODE", {f"sum({of('dejaview_in_flight_uploads')})": "uploads"}, width=12),
        ]),
    ]  # fmt: skip


def _verdicts() -> list[Row]:
    near = (f"(sum({rate('dejaview_verdict_margin_bucket', le='0.05')})"
            f" - sum({rate('dejaview_verdict_margin_bucket', le='-0.05')}))"
            f" / sum({rate('dejaview_verdict_margin_count')})")  # fmt: skip
    mix = f"sum by (verdict) ({rate(_VERDICTS)}) / on () group_left () sum({rate(_VERDICTS)})"
    margins = f"sum by (le) (increase({of('dejaview_verdict_margin_bucket')}[$__rate_interval]))"
    return [
        Row("Verdicts", [
            Panel("Per second", {f"sum by (verdict) ({rate(_VERDICTS)})": "{{verdict}}"}, "cps", stacked=True),
            Panel("Mix", {mix: "{{verdict}}"}, "percentunit", stacked=True),
            Panel("Share of review, 6 h", {f"max({of('dejaview:review:ratio_6h')})": "review"}, "percentunit",
                  note="What people are asked to look at. The alert's budget is 5 %."),
        ]),
        Row("How sure they are", [
            Panel("Margins", {margins: "{{le}}"}, "none", "heatmap", 12,
                  note="Score less the duplicate threshold: duplicates are above 0."),
            Panel("Share within 0.05 of the threshold", {near: "share"}, "percentunit", width=12,
                  note="What a slightly moved threshold would judge otherwise."),
        ]),
        Row("Not judged, and judged again", [
            Panel("Dead letters by reason", {f"sum by (reason) ({rate(_DEAD)})": "{{reason}}"}, "cps", stacked=True),
            Panel("Repeats", {f"sum({rate('dejaview_repeated_verdicts_total')})": "a sender's, answered again",
                              f"sum({rate('dejaview_dropped_repeats_total')})": "an encoder's, dropped"}, "cps"),
            Panel("Batches thrown away", {f"sum by (cause) ({rate('dejaview_aborted_batches_total')})": "{{cause}}"},
                  "cps", note="Judged again; nothing of them was visible."),
        ]),
    ]  # fmt: skip


def _index() -> list[Row]:
    def calls(title: str, stage: str, step: str) -> Panel:
        return Panel(title, {quantile(q, _STEP, stage=stage, step=step): f"{q:.0%}" for q in (0.5, 0.99)}, "s", width=6)

    return [
        Row("What the index does not hold yet", [
            Panel("Fullest window", {f"max by (instance) ({of('dejaview_window_fill_ratio')})": "{{instance}}"},
                  "percentunit", note="At 100 % its partition waits for INDEX."),
            Panel("Ledger records not in the index", {f"sum({of('dejaview_index_progress_lag_records')})": "records"}),
            Panel("Rows in windows", {f"sum({of('dejaview_window_rows')})": "rows"}),
        ]),
        Row("What it holds", [
            Panel("Rows", {f"max({of('dejaview_index_rows')})": "rows"}, note="Counted every five minutes.", width=12),
            Panel("Rows inserted per second", {f"sum({rate('dejaview_indexed_rows_total')})": "rows"}, "cps", width=12),
        ]),
        Row("Its answers", [
            calls("Search", "decide", "search"), calls("Progress, read by DECIDE", "decide", "progress"),
            calls("Insert", "index", "insert"), calls("Link", "index", "link"),
            Panel("Failed calls", {f"sum by (stage) ({rate('dejaview_index_errors_total')})": "{{stage}}"}, "cps",
                  width=24),
        ]),
    ]  # fmt: skip


def _workers() -> list[Row]:
    each = "{{instance}}"
    runs = f"count by (version, model_id, runtime) ({of('dejaview_build_info')})"
    with_stage = "{{instance}} {{stage}}"
    # The names are everybody's.
    ours = f"and on (namespace, job, instance) {of('dejaview_ready')}"
    process = f"{{{CHOSEN}}} {ours}"
    cpu = f"{rate('process_cpu_seconds_total')} {ours}"
    return [
        Row("Who is there", [
            Panel("What runs", {runs: ""}, kind="table", note="Workers without ENCODE have the runtime none."),
            Panel("Ready", {of("dejaview_ready"): each}),
            Panel("Running for", {f"time() - process_start_time_seconds{process}": each}, "s"),
        ]),
        Row("What they do", [
            Panel("Records per second", {f"sum by (instance, stage) ({rate('dejaview_events_total')})": with_stage},
                  "cps"),
            Panel("Records behind", {of("dejaview_consumer_lag_records"): with_stage}),
            Panel("Partitions not read", {of("dejaview_paused_partitions"): with_stage}),
            Panel("Uploads in flight", {of("dejaview_in_flight_uploads"): each}),
            Panel("Bytes in flight", {of("dejaview_in_flight_bytes"): each}, "bytes"),
            Panel("Memory against repeats", {of("dejaview_memory_entries"): each}),
        ]),
        Row("What they use", [
            Panel("CPUs", {cpu: each}, note="Without decoder processes."),
            Panel("Resident memory", {f"process_resident_memory_bytes{process}": each}, "bytes",
                  note="Without decoder processes."),
            Panel("Open files", {f"process_open_fds{process}": each}),
        ]),
        Row("What goes wrong", [
            Panel("Decoder processes replaced", {f"increase({of('dejaview_decoder_restarts')}[$__rate_interval])":
                                                 each}),
            Panel("Partitions taken anew", {of("dejaview_revived_partitions"): with_stage}),
            Panel("Failed calls to Kafka", {f"sum by (instance, stage) ({rate('dejaview_broker_errors_total')})":
                                            with_stage}, "cps"),
            Panel("Retention left", {f"min by (stage) ({of('dejaview:retention_left:ratio')})": "{{stage}}"},
                  "percentunit", width=12, note="Of the topic that a stage reads, for the oldest that it has not."),
            Panel("Runtimes passed over", {of("dejaview_runtime_passed_over"): "{{instance}} {{runtime}}: {{why}}"},
                  width=12, note="Of model.runtime auto; docs/gpu.md."),
        ]),
    ]  # fmt: skip
