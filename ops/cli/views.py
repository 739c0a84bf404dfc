"""How `dejaview watch` shows events: a live table, plain lines, or JSON lines."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops.cli.watched import COLUMNS, Watched

STYLES = {"duplicate": "bold red", "review": "yellow", "unique": "green", "dead letter": "bold magenta"}
_RIGHT = {"score", "margin", "confidence", "latency"}
_HEAD_LINES = 3
_LINE_WIDTHS = (8, 12, 32, 18, 7, 7, 10, 32, 20, 10)


class View(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Watched) -> None: ...

    def turn(self) -> None:
        """All that has come for now was shown."""


class _Lines:
    """Lines on stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def turn(self) -> None:
        """Every line is flushed when it is shown."""


class JsonLines(_Lines):
    """One JSON object a line."""

    def show(self, event: Watched) -> None:
        print(event.json_line(), flush=True)


class PlainLines(_Lines):
    """Aligned columns; long texts move the rest of their line."""

    def __init__(self) -> None:
        self._head_shown = False

    def show(self, event: Watched) -> None:
        if not self._head_shown:
            print(_line(COLUMNS), flush=True)
            self._head_shown = True
        print(_line(event.cells), flush=True)


class LiveTable:
    """The latest events, as many as the terminal has lines."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._rows: deque[Watched] = deque()
        self._live = Live(console=self._console, auto_refresh=False)
        self._changed = True

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.turn()
        self._live.stop()

    def show(self, event: Watched) -> None:
        self._rows.append(event)
        while len(self._rows) > max(1, self._console.height - _HEAD_LINES):
            self._rows.popleft()
        self._changed = True

    def turn(self) -> None:
        if self._changed:
            self._live.update(self._table(), refresh=True)
            self._changed = False

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True)
        for name in COLUMNS:
            table.add_column(
                name, no_wrap=True, overflow="ellipsis", justify="right" if name in _RIGHT else "left",
                ratio=2 if name in {"upload", "match"} else 1,
            )  # fmt: skip
        for event in self._rows:
            style = STYLES.get(event.verdict, "")
            table.add_row(
                *(Text(c, style=style if n == "verdict" else "") for n, c in zip(COLUMNS, event.cells, strict=True))
            )
        return table


def _line(cells: tuple[str, ...]) -> str:
    padded = (
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for name, cell, width in zip(COLUMNS, cells, _LINE_WIDTHS, strict=True)
    )
    return "  ".join(padded).rstrip()
