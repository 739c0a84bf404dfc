"""An evaluation as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from models.edits import Edit
from models.evaluation.metrics import Bin
from models.evaluation.queries import Task, edited
from models.evaluation.result import Evaluation
from models.evaluation.run import Ground, Outcome
from models.evaluation.table import html_table
from models.evaluation.tables import summary, tables
from models.photos import thumbnail_url

TEMPLATE = Path(__file__).with_name("page.html")
SHOWN = 12
_THUMBNAIL = 180
_WIDTH, _HEIGHT = 460, 300
_COLOURS = ("#13795b", "#1f5fbf", "#b3261e", "#8a5a00", "#7a3fb0", "#00798c", "#c2407a", "#556070")


def html(outcome: Outcome, ground: Ground, edits: dict[str, Edit]) -> str:
    """The page."""
    of = outcome.evaluation
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        model=escape(of.model_id),
        summary="".join(f"<p>{escape(line)}</p>" for line in summary(of)),
        curves=_curves(of),
        reliability=_reliability(of.deployed.reliability),
        tables="".join(html_table(table) for table in tables(of)),
        misses="".join(_misses(outcome, ground, edits)),
        false_pairs="".join(_false_pairs(outcome, ground, edits)),
        command=escape(of.command),
    )


def _curves(of: Evaluation) -> str:
    lines, key = [], []
    for (name, points), colour in zip(of.curves.items(), _COLOURS, strict=False):
        path = " ".join(f"{_WIDTH * x:.1f},{_HEIGHT * (1 - y):.1f}" for x, y in points)
        lines.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        key.append(f"<span><i style='background:{colour}'></i>{escape(name)}</span>")
    return f"{_plot(lines, 'recall', 'precision')}<p class='key'>{''.join(key)}</p>"


def _reliability(bins: Sequence[Bin]) -> str:
    most = max(b.answers for b in bins)
    marks = [f"<line x1='0' y1='{_HEIGHT}' x2='{_WIDTH}' y2='0' stroke='#9aa6b8' stroke-dasharray='4'/>"]
    for b in bins:
        radius = 3 + 9 * (b.answers / most) ** 0.5
        x, y = _WIDTH * b.confidence, _HEIGHT * (1 - b.right)
        told = f"{b.answers} answers: confidence {b.confidence:.3f}, right {b.right:.3f}"
        marks.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}' fill='#13795b' fill-opacity='.6'>"
            f"<title>{told}</title></circle>"
        )
    return _plot(marks, "confidence", "share that is right")


def _plot(marks: Sequence[str], x_name: str, y_name: str) -> str:
    ticks = []
    for n in range(6):
        x, y = _WIDTH * n / 5, _HEIGHT * (1 - n / 5)
        ticks.append(f"<line x1='0' y1='{y}' x2='{_WIDTH}' y2='{y}' stroke='#8884'/>")
        ticks.append(f"<text x='{x}' y='{_HEIGHT + 18}' text-anchor='middle'>{n / 5:.1f}</text>")
        ticks.append(f"<text x='-8' y='{y + 4}' text-anchor='end'>{n / 5:.1f}</text>")
    middle = _HEIGHT / 2
    names = (
        f"<text x='{_WIDTH / 2}' y='{_HEIGHT + 38}' text-anchor='middle'>{x_name}</text>"
        f"<text x='-40' y='{middle}' text-anchor='middle' transform='rotate(-90 -40 {middle})'>{y_name}</text>"
    )
    box = f"-60 -14 {_WIDTH + 80} {_HEIGHT + 64}"
    return f"<svg viewBox='{box}' role='img'>{''.join(ticks)}{names}{''.join(marks)}</svg>"


def _misses(outcome: Outcome, ground: Ground, edits: dict[str, Edit]) -> list[str]:
    """Copies that were not found at the duplicate threshold, the lowest scores first, one an edit."""
    ours, limit = outcome.ours, outcome.evaluation.deployed.duplicate_threshold
    missed = np.where(ours.right & (ours.with_score >= limit), np.inf, ours.with_score)
    cards = []
    for edit in np.argsort(missed.min(axis=1), kind="stable"):
        photo = int(missed[edit].argmin())
        if np.isfinite(missed[edit, photo]):
            name = outcome.edits[edit]
            row = int(ours.with_row[edit, photo])
            found = "its original, below the threshold" if row == photo else "another photo was nearer"
            told = f"{name}: {found}; score {ours.with_score[edit, photo]:.3f}"
            cards.append(_card(edited(Task(ground.photos[photo], name), edits), ground.photos[photo].open(), told))
    return cards[:SHOWN]


def _false_pairs(outcome: Outcome, ground: Ground, edits: dict[str, Edit]) -> list[str]:
    """Queries without an original whose nearest row scores highest, each pair of photos once."""
    ours, rows = outcome.ours, ground.rows
    cards, met = [], set()
    for place in np.argsort(-ours.without_score, axis=None, kind="stable"):
        edit, photo = divmod(int(place), ours.photos)
        row = int(ours.without_row[edit, photo])
        if (photo, row) in met:
            continue
        met.add((photo, row))
        told = f"{outcome.edits[edit]}: score {ours.without_score[edit, photo]:.3f}"
        cards.append(_card(edited(Task(ground.photos[photo], outcome.edits[edit]), edits), rows[row].open(), told))
        if len(cards) == SHOWN:
            break
    return cards


def _card(left: Image.Image, right: Image.Image, told: str) -> str:
    pictures = "".join(f"<img alt='' src='{thumbnail_url(image, _THUMBNAIL)}'>" for image in (left, right))
    return f"<figure><div>{pictures}</div><figcaption>{escape(told)}</figcaption></figure>"
