"""A published data set asked with every method, by the data set's own protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.background import Background
from models.evaluation.datasets import Dataset, Search
from models.evaluation.decision import Decision, joined
from models.evaluation.metrics import Interval, Scores, bootstrap
from models.evaluation.queries import OURS, Made, Methods, Task, Workshop
from models.evaluation.run import cosine
from models.evaluation.table import Table
from models.evaluation.tables import interval
from models.photos import Photo, read_photos

# Scores of so many queries are in memory at a time.
_CHUNK = 256


class Published(BaseModel):
    """One data set: for every search, how many queries, and every method's figure."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    dataset: str
    protocol: str
    model_id: str
    command: str
    rows: int
    distractors: int
    queries: dict[str, int]
    figures: dict[str, dict[str, Interval]]


def evaluate_published(
    dataset: Dataset,
    distractors: Iterable[Photo],
    background: Background,
    methods: Methods,
    workshop: Workshop,
    *,
    command: str,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Published:
    """Encode and hash all pictures, rank the rows for every query, measure.

    Args:
        distractors: further rows; those that are byte for byte in the data set, or come again, are left out.

    Raises:
        SettingError: a picture cannot be read.
    """
    say(f"pictures: {len(dataset.files)}")
    known: set[str] = set()
    own = workshop.made(Task(photo) for photo in _new(read_photos(dataset.files), known, always=True))
    say("distractors")
    beside = workshop.made(Task(photo) for photo in _new(distractors, known))
    figures: dict[str, dict[str, Interval]] = {search.name: {} for search in dataset.searches}
    for method in methods.names:
        compare = _comparison(method, own, beside, background, dataset.rows)
        for search in dataset.searches:
            places = list(search.queries)
            parts = (compare(places[start : start + _CHUNK]) for start in range(0, len(places), _CHUNK))
            figures[search.name][method] = _mean(list(_measured(dataset, search, parts)), seed)
    return Published(
        dataset=dataset.name,
        protocol=dataset.protocol,
        model_id=methods.encoder.model_id,
        command=command,
        rows=dataset.rows,
        distractors=len(beside.views.whole),
        queries={search.name: len(search.queries) for search in dataset.searches},
        figures=figures,
    )


def _comparison(
    method: str, own: Made, beside: Made, background: Background, count: int
) -> Callable[[Sequence[int]], Scores]:
    """Places of queries -> their scores, against the first `count` pictures and the distractors."""
    if method == OURS:
        # Every row is ranked, not the nearest alone.
        rows = joined([own.views.part(range(count)), beside.views])
        decision = Decision(background, rows, nearest=None)
        return lambda places: decision.scores(own.views.part(places))
    others = [own.rows[method][:count], *([beside.rows[method]] if len(beside.rows[method]) else [])]
    compare = cosine(np.concatenate(others))
    return lambda places: compare(own.rows[method][places], own=True)


def summary_of(of: Published) -> list[str]:
    """What was asked of what."""
    return [
        f"{of.dataset}, {of.model_id}: {of.rows:,} rows and {of.distractors:,} distractors. {of.protocol}.",
        "Intervals: 95 %, bootstrap over the queries.",
    ]


def table_of(of: Published) -> Table:
    """A row for every search, a column for every method."""
    methods = list(next(iter(of.figures.values())))
    rows = [
        (name, f"{of.queries[name]:,}", *(interval(figures[method]) for method in methods))
        for name, figures in of.figures.items()
    ]
    return Table(of.dataset, of.protocol, ("", "queries", *methods), rows)


def _new(photos: Iterable[Photo], known: set[str], *, always: bool = False) -> Iterator[Photo]:
    """Those whose bytes are not known yet, or `always` all of them; they are known afterwards."""
    for photo in photos:
        if always or photo.sha256 not in known:
            known.add(photo.sha256)
            yield photo


def _mean(values: Sequence[float], seed: int) -> Interval:
    array = np.array(values)
    return bootstrap(lambda drawn: [float(array[drawn].mean())], len(array), seed)[0]


def _measured(dataset: Dataset, search: Search, parts: Iterable[Scores]) -> Iterator[float]:
    """The figure of every query. Of rows with equal scores the wrong ones come first: ties gain nothing."""
    scores = (row for part in parts for row in part)
    for query, right, found in zip(search.queries, search.right, scores, strict=True):
        is_right = np.zeros(len(found), dtype=bool)
        is_right[list(right)] = True
        order = np.lexsort((is_right, -found))
        if not dataset.finds_itself:
            order = order[order != query]
        yield dataset.measure(np.flatnonzero(is_right[order]).tolist(), len(right))
