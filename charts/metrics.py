"""The table of all metrics in `docs/metrics.md`, read off the program's. `python -m charts.generate` writes it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream.metrics import Metrics

BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"
# Of the Python client, about the process; on Linux only.
PROCESS = (
    "process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes",
    "process_start_time_seconds", "process_virtual_memory_bytes",
)  # fmt: skip

Metric = Counter | Gauge | Histogram


def metrics() -> list[Metric]:
    """Every metric of the program, in the order of the source."""
    return [one for one in vars(Metrics(CollectorRegistry())).values() if isinstance(one, Counter | Gauge | Histogram)]


def kind(metric: Metric) -> str:
    """`counter`, `gauge` or `histogram`."""
    return type(metric).__name__.lower()


def shown_name(metric: Metric) -> str:
    """The name as it is written in queries: a counter's ends in `_total`."""
    (family,) = metric.describe()
    return f"{family.name}_total" if isinstance(metric, Counter) else str(family.name)


def labels(metric: Metric) -> tuple[str, ...]:
    """The names of a metric's labels."""
    return tuple(metric._labelnames)  # noqa: SLF001 - the client tells them nowhere else


def series_names() -> set[str]:
    """Every name that a query may use, `PROCESS` included."""
    names = set(PROCESS)
    for metric in metrics():
        name = shown_name(metric)
        names |= {f"{name}_{part}" for part in _parts(metric)} if isinstance(metric, Histogram) else {name}
    return names


def _parts(metric: Histogram) -> tuple[str, ...]:
    """The client leaves out the sum of what may be negative: it would go down."""
    negative = metric._upper_bounds[0] < 0  # noqa: SLF001 - the client tells them nowhere else
    return ("bucket", "count") if negative else ("bucket", "count", "sum")


def table() -> str:
    """The table, in Markdown."""
    lines = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics():
        (family,) = metric.describe()
        named = ", ".join(f"`{name}`" for name in labels(metric))
        meaning = str(family.documentation).replace("|", "\\|")
        lines.append(f"| `{shown_name(metric)}` | {kind(metric)} | {named} | {meaning} |")
    return "\n".join(lines)
