"""The pieces of the page. Everything that comes from outside (names, ids, details) is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ops.demo.tally import Judged, Outcome
from ops.demo.uploads import Kind, Upload, in_words
from schemas.events import Verdict

# Base64 of all thumbnails together: with it the page stays below 3 MB.
THUMBNAIL_CHARS_MAX = 2_400_000
_NUMBERS = ("similarity", "score", "margin", "confidence")


class Thumbnails:
    """Every picture once, as a CSS class: a card shows two, and its match is shown on many cards."""

    def __init__(self) -> None:
        self._classes: dict[bytes, str] = {}
        self._rules: list[str] = []
        self._chars = 0

    def has_room(self) -> bool:
        return self._chars < THUMBNAIL_CHARS_MAX

    def image(self, upload: Upload) -> str:
        name = self._class(upload.thumbnail)
        return f'<span class="t {name}" role="img" aria-label="{escape(upload.upload_id)}"></span>'

    def css(self) -> str:
        return "\n".join(self._rules)

    def _class(self, thumbnail: bytes) -> str:
        known = self._classes.get(thumbnail)
        if known is None:
            known = self._classes[thumbnail] = f"t{len(self._classes)}"
            encoded = base64.b64encode(thumbnail).decode("ascii")
            self._chars += len(encoded)
            self._rules.append(f".{known} {{ background-image: url(data:image/webp;base64,{encoded}); }}")
        return known


def tile(value: str, label: str, tone: str = "", beside: str = "") -> str:
    small = f" <i>{escape(beside)}</i>" if beside else ""
    return f'<div class="tile {tone}"><b>{escape(value)}{small}</b><span>{escape(label)}</span></div>'


def section(heading: str, text: str, body: str) -> str:
    return f'<h2>{escape(heading)}</h2><p class="soft">{escape(text)}</p>{body}'


def edit_bars(counts: Mapping[str, Mapping[Outcome, int]]) -> str:
    """A bar an edit: found, left to review, and neither; the hardest first."""
    hardest = sorted(counts, key=lambda edit: (counts[edit][Outcome.FOUND] / sum(counts[edit].values()), edit))
    key = '<p class="key"><i class="f"></i>found<i class="r"></i>left to review<i class="m"></i>missed or mistaken</p>'
    return f'<div class="edits">{"".join(_bar(edit, counts[edit]) for edit in hardest)}</div>{key}'


def _bar(edit: str, counts: Mapping[Outcome, int]) -> str:
    total = sum(counts.values())
    found, review = counts[Outcome.FOUND], counts[Outcome.REVIEW]
    shares = (("f", found), ("r", review), ("m", total - found - review))
    parts = "".join(f'<i class="{name}" style="width:{100 * n / total:.2f}%"></i>' for name, n in shares if n)
    return (
        f'<div class="edit"><span>{escape(in_words(edit))}</span><span class="bar">{parts}</span>'
        f"<em>{found} / {total}</em></div>"
    )


def cards(judged: Iterable[Judged], thumbnails: Thumbnails, nearest: Mapping[str, Upload]) -> str:
    """Cards while there is room for their pictures; says how many were left out."""
    shown, left_out = [], 0
    for one in judged:
        if thumbnails.has_room():
            shown.append(card(one, thumbnails, nearest))
        else:
            left_out += 1
    more = f'<p class="soft">{left_out} more are not shown: the page would grow too large.</p>' if left_out else ""
    return f'<div class="cards">{"".join(shown)}</div>{more}'


def card(judged: Judged, thumbnails: Thumbnails, nearest: Mapping[str, Upload]) -> str:
    """An upload beside its match; where nothing matched, beside the nearest picture."""
    upload, verdict = judged.upload, judged.verdict
    near = judged.match or _nearest(verdict, nearest)
    other = thumbnails.image(near) if near is not None else '<span class="t none">nothing near</span>'
    return (
        f'<article class="card"><div class="pair">{thumbnails.image(upload)}{other}</div>'
        f'<h3>{escape(_title(upload))}</h3><p class="of">{escape(upload.photo.name)}{escape(_beside(judged, near))}</p>'
        f"{_numbers(verdict)}{_chips(judged)}</article>"
    )


def photo_group(original: Upload, found: Sequence[Judged], thumbnails: Thumbnails, *, unfolded: bool) -> str:
    """The copies found of one photograph, to be unfolded; the narrowest first."""
    ordered = sorted(found, key=_margin)
    return (
        f"<details{' open' if unfolded else ''}><summary>{thumbnails.image(original)}"
        f"<span><b>{escape(original.photo.name)}</b><small>{len(found)} found, the narrowest by a margin of "
        f"{_margin(ordered[0]):+.3f}</small></span></summary>{cards(ordered, thumbnails, {})}</details>"
    )


def _margin(judged: Judged) -> float:
    return judged.verdict.margin or 0.0 if judged.verdict is not None else 0.0


def photo_table(originals: Sequence[Judged], thumbnails: Thumbnails) -> str:
    rows = "".join(_photo_row(one, thumbnails) for one in originals)
    head = "<tr><th></th><th>file</th><th>source</th><th>licence note</th><th>judged</th></tr>"
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _photo_row(judged: Judged, thumbnails: Thumbnails) -> str:
    photo = judged.upload.photo
    picture = thumbnails.image(judged.upload) if thumbnails.has_room() else ""
    said = judged.verdict.verdict if judged.verdict is not None else "dead letter"
    cells = (picture, escape(photo.name), escape(photo.source), escape(photo.licence or "yours"))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}<td>{_chip(said, judged.outcome)}</td></tr>"


def _title(upload: Upload) -> str:
    return "the photograph itself" if upload.kind in (Kind.ORIGINAL, Kind.SECOND_VIEW) else upload.done_to_it


def _beside(judged: Judged, near: Upload | None) -> str:
    """What stands on the right, where it is not simply the photograph that was copied."""
    if near is None:
        return ""
    name = near.photo.name if near.kind is Kind.ORIGINAL else f"{near.photo.name} {near.done_to_it}"
    if judged.match is None:
        return f" · nearest: {name}"
    if near.photo.scene != judged.upload.photo.scene:
        return f" · matched {name}"
    return "" if near.kind is Kind.ORIGINAL else f" · matched the copy {near.done_to_it}"


def _nearest(verdict: Verdict | None, uploads: Mapping[str, Upload]) -> Upload | None:
    return uploads.get(verdict.neighbours[0].upload_id) if verdict is not None and verdict.neighbours else None


def _numbers(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    margin = verdict.margin
    tone = "" if margin is None else "plus" if margin >= 0 else "minus"
    values = (_number(verdict.similarity), _number(verdict.score), _number(margin, "+"), f"{verdict.confidence:.3f}")
    terms = "".join(f"<dt>{name}</dt>" for name in _NUMBERS)
    tones = ("", "", tone, "")
    details = "".join(f'<dd class="{tone}">{value}</dd>' for tone, value in zip(tones, values, strict=True))
    return f'<dl class="numbers">{terms}{details}</dl>'


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _chips(judged: Judged) -> str:
    if judged.verdict is None:
        letter = judged.dead_letter
        detail = f"{letter.reason}: {letter.detail}" if letter is not None else "no answer"
        return f'<div class="chips">{_chip(detail, judged.outcome)}</div>'
    names = [*judged.verdict.evidence, *(["a part of it"] if judged.verdict.panel else [])]
    evidence = "".join(f'<span class="chip">{escape(name)}</span>' for name in names)
    return f'<div class="chips">{_chip(judged.verdict.verdict, judged.outcome)}{evidence}</div>'


def _chip(text: str, outcome: Outcome) -> str:
    return f'<span class="chip {outcome}">{escape(text)}</span>'
