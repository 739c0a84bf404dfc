"""What a benchmark found: figures, each beside its limit or its peer of the same run, and curves."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from models.evaluation.table import Table


def readable(value: float) -> str:
    """Three digits that matter."""
    if value == 0:
        return "0"
    if abs(value) >= 100:  # noqa: PLR2004 - three digits before the point
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> str:
    """Processor and cores, as the figures need to be read."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return (
        f"{os.cpu_count()} cores, {name}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `limit` is what it stands beside, in the same unit, and `beside` says what that is."""

    what: str
    value: float
    unit: str
    beside: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value over limit."""
        return self.value / self.limit if self.limit else None


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: y over x."""

    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves in one picture."""

    title: str
    x_name: str
    y_name: str
    lines: list[Line]
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of the benchmark found."""

    name: str
    title: str
    note: str
    figures: list[Figure]
    plots: list[Plot] = field(default_factory=list)

    @property
    def table(self) -> Table:
        rows: list[tuple[str, ...]] = [
            (
                one.what,
                f"{readable(one.value)} {one.unit}",
                "" if one.limit is None else f"{readable(one.limit)} {one.unit}",
                "" if one.ratio is None else f"{one.ratio:.2f}",
                one.beside,
            )
            for one in self.figures
        ]
        return Table(self.title, self.note, ("", "here", "beside it", "ratio", "what that is"), rows)


@dataclass(frozen=True, slots=True)
class Report:
    """All parts of one run on one machine."""

    command: str
    parts: list[Part]
    machine: str = field(default_factory=machine)
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def to_json(self) -> str:
        content = asdict(self)
        for part, told in zip(self.parts, content["parts"], strict=True):
            for figure, values in zip(part.figures, told["figures"], strict=True):
                values["ratio"] = figure.ratio
        return json.dumps(content, indent=1) + "\n"
