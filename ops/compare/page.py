"""A comparison as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from models.evaluation.table import Table, html_table
from ops.cli.replay import Place
from ops.compare.flips import Comparison, Flip, Judged, Key
from schemas.events import VerdictKind

TEMPLATE = Path(__file__).with_name("page.html")

Address = Callable[[Place | None], str]


def summary(found: Comparison) -> str:
    """One sentence."""
    flips = len(found.flips)
    share = f" ({flips / found.compared:.2%})" if found.compared else ""
    more = f"; {found.other_bytes} ids with other bytes left out" if found.other_bytes else ""
    return (
        f"{found.compared} uploads with a verdict in both, {flips} flips{share}, {len(found.other_matches)} with "
        f"another match; {found.only_old} in the old only, {found.only_new} in the new only{more}"
    )


def table(found: Comparison) -> Table:
    """Old verdicts down, new ones across."""
    kinds = [str(kind) for kind in VerdictKind]
    rows = [(f"{old} before", *(str(found.table[old, new]) for new in kinds)) for old in kinds]
    return Table("Verdicts", "old deployment down, new one across", ("", *kinds), rows)


def page(
    found: Comparison, shown: Sequence[Flip], old: Mapping[Key, Judged], new: Mapping[Key, Judged], address: Address
) -> str:
    """HTML with the pictures of these flips: the upload, and what each deployment matched it with.

    Args:
        old, new: all verdicts, to find the records of matches.
        address: a place's picture as an address, empty where there is none.
    """
    flips = "".join(_flip(flip, old, new, address) for flip in shown)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=escape(summary(found)), table=html_table(table(found)), flips=flips
    )


def _flip(flip: Flip, old: Mapping[Key, Judged], new: Mapping[Key, Judged], address: Address) -> str:
    figures = [_figure(address(flip.old.place or flip.new.place), f"{flip.tenant} {flip.upload_id}")]
    for name, judged, known in (("old", flip.old, old), ("new", flip.new, new)):
        told = f"{name}: {judged.kind}, score {judged.score}, margin {judged.margin}"
        match = known.get((flip.tenant, judged.match)) if judged.match is not None else None
        of = f" of {judged.match}" if judged.match is not None else ""
        figures.append(_figure(address(match.place) if match is not None else "", told + of))
    return f"<div class='flip'>{''.join(figures)}</div>"


def _figure(url: str, told: str) -> str:
    picture = f"<img alt='' src='{url}'>" if url else "<div class='none'></div>"
    return f"<figure>{picture}<figcaption>{escape(told)}</figcaption></figure>"
