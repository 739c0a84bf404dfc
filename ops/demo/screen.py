"""The terminal during the run: a bar and the latest verdicts, or a few plain lines where it is no terminal."""

from __future__ import annotations

from collections import Counter, deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ops.demo.tally import Judged, Outcome
from schemas.events import Verdict

ROWS = 12
_PLAIN_EVERY = 100
_COLOURS = {
    Outcome.NEW: "cyan",
    Outcome.FOUND: "green",
    Outcome.REPEATED: "green",
    Outcome.REVIEW: "yellow",
    Outcome.ALIKE: "yellow",
    Outcome.SECOND_VIEW: "yellow",
    Outcome.MISSED: "red",
    Outcome.FALSE: "red",
    Outcome.DEAD_LETTER: "red",
}


class LiveScreen:
    """For terminals."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=None)
        self._rows: deque[Judged] = deque(maxlen=ROWS)
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._view)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def phase(self, what: str, total: int = 0) -> None:
        self._progress.reset(self._task, description=what, total=total or None)

    def judged(self, judged: Judged) -> None:
        self._rows.append(judged)
        self._progress.advance(self._task)

    def _view(self) -> Group:
        return Group(self._progress, verdict_table(list(self._rows)))


class PlainScreen:
    """For files and pipes: a line a phase and a line every hundred verdicts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what = ""
        self._total = 0
        self._counts: Counter[Outcome] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def phase(self, what: str, total: int = 0) -> None:
        self._what, self._total = what, total
        self._counts.clear()
        self._line(f"{what} ({total})" if total else what)

    def judged(self, judged: Judged) -> None:
        self._counts[judged.outcome] += 1
        done = self._counts.total()
        if done == self._total or done % _PLAIN_EVERY == 0:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in self._counts.most_common())
            self._line(f"  {done} of {self._total}: {counts}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def open_screen(console: Console | None = None) -> LiveScreen | PlainScreen:
    """The screen that suits standard output."""
    chosen = console or Console()
    return LiveScreen(chosen) if chosen.is_terminal else PlainScreen(chosen)


def verdict_table(rows: list[Judged]) -> Table:
    """The latest verdicts, newest last."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("upload", "what was done", "verdict", "match"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=26)
    for heading in ("score", "margin", "confidence"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("evidence", no_wrap=True, overflow="ellipsis")
    for judged in rows:
        table.add_row(*_cells(judged))
    return table


def _cells(judged: Judged) -> list[Text]:
    upload, verdict = judged.upload, judged.verdict
    cells = [Text(upload.photo.name), Text(upload.done_to_it)]
    if verdict is None:
        reason = judged.dead_letter.reason if judged.dead_letter is not None else "no answer"
        return [*cells, Text(str(reason), _COLOURS[judged.outcome])]
    said = Text(f"{verdict.verdict}{' (repeat)' if verdict.repeat else ''}", _COLOURS[judged.outcome])
    match = Text(verdict.match.upload_id if verdict.match is not None else "")
    return [*cells, said, match, *_numbers(verdict)]


def _numbers(verdict: Verdict) -> list[Text]:
    score = Text(f"{verdict.score:.3f}" if verdict.score is not None else "")
    margin = Text(f"{verdict.margin:+.3f}" if verdict.margin is not None else "")
    return [score, margin, Text(f"{verdict.confidence:.2f}"), Text(" ".join(verdict.evidence), "dim")]
