"""`python -m charts.generate`: writes what is read off other files: the chart's `values.schema.json`, the table of
values in its README, service levels, dashboards and the table of metrics in `docs/metrics.md`.

Tests in `tests/chart`, `tests/monitoring` and `tests/unit/test_metrics.py` fail when one differs from that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from charts import levels, metrics
from charts.dashboards import dashboard_text, dashboards
from charts.schema import values_schema

CHART = Path(__file__).parent / "dejaview"
METRICS_PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
STAGES = ("encode", "decide", "index")
_BEGIN, _END = "<!-- values -->", "<!-- /values -->"
_LINE = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z0-9_]+):(?: (?P<default>.+))?$")


@dataclass(frozen=True, slots=True)
class Value:
    """One value: `encode.hpa.enabled`, its default as it is written, and the comment above it."""

    name: str
    default: str
    meaning: str


def documented(text: str) -> Iterator[Value]:
    """The values of a `values.yaml` in which a mapping that is no value is written in lines, anything else in one."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        found = _LINE.match(line)
        if found is None:
            if line.strip():
                raise ValueError(f"values.yaml: {line!r} is not `name: value` in one line")
            comment = []
            continue
        path = [*path[: len(found["indent"]) // 2], found["name"]]
        if found["default"] is not None:
            yield Value(".".join(path), found["default"], " ".join(comment))
        comment = []


def table(values: list[Value]) -> str:
    """The README's table. What all stages have, with the same meaning, is one row."""
    by_name = {value.name: value for value in values}
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        stage, _, rest = value.name.partition(".")
        alike = [by_name.get(f"{one}.{rest}") for one in STAGES] if stage in STAGES else []
        found = [one for one in alike if one is not None]
        if len(found) == len(STAGES) and len({one.meaning for one in found}) == 1:
            if stage == STAGES[0]:
                defaults = list(dict.fromkeys(one.default for one in found))
                shown = defaults if len(defaults) == 1 else [one.default for one in found]
                lines.append(_row(f"STAGE.{rest}", shown, value.meaning))
            continue
        lines.append(_row(value.name, [value.default], value.meaning))
    return "\n".join(lines)


def readme(text: str, values: list[Value]) -> str:
    """The README with its table written anew."""
    return _between(text, _BEGIN, _END, table(values))


def metrics_page(text: str) -> str:
    """`docs/metrics.md` with its table written anew."""
    return _between(text, metrics.BEGIN, metrics.END, metrics.table())


def schema_text() -> str:
    """`values.schema.json`."""
    return json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"


def _between(text: str, begin_mark: str, end_mark: str, new: str) -> str:
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not (begin and end):
        raise ValueError(f"the page has lost {begin_mark} or {end_mark}")
    return f"{before}{begin_mark}\n{new}\n{end_mark}{after}"


def _row(name: str, defaults: list[str], meaning: str) -> str:
    shown = ", ".join(f"`{default}`" for default in defaults if default != '""')
    return "| " + " | ".join(part.replace("|", "\\|") for part in (f"`{name}`", shown, meaning)) + " |"


def main() -> None:
    """Write them."""
    values = list(documented((CHART / "values.yaml").read_text()))
    (CHART / "values.schema.json").write_text(schema_text())
    page = CHART / "README.md"
    page.write_text(readme(page.read_text(), values))
    (CHART / "files" / "rules" / "levels.yaml").write_text(levels.rules_text())
    for name, content in dashboards().items():
        (CHART / "files" / "dashboards" / f"{name}.json").write_text(dashboard_text(content))
    METRICS_PAGE.write_text(metrics_page(METRICS_PAGE.read_text()))


if __name__ == "__main__":
    main()
