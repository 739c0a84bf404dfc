"""A scan as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from models.photos import thumbnail_url
from models.preprocess import upright_rgb
from ops.scan.run import Scan, Scanned, part, summary
from stream.decision import DIGITS

TEMPLATE = Path(__file__).with_name("page.html")
GROUPS_MAX = 400
_SIDE = 160


def page(found: Scan) -> str:
    """HTML; thumbnails of the first groups, so that the page stays small enough to open."""
    groups = []
    for group in found.groups[:GROUPS_MAX]:
        figures = [_figure(group.best, "<b class='best'>best</b>")]
        for member in group.members:
            verdict = member.verdict
            told = f"<b class='{verdict.verdict}'>{verdict.verdict}</b> {verdict.score:.{DIGITS}f}"
            figures.append(_figure(member.picture, f"{told}, confidence {verdict.confidence:.2f}{part(verdict)}"))
        groups.append(f"<div class='group'>{''.join(figures)}</div>")
    left_out = len(found.groups) - GROUPS_MAX
    if left_out > 0:
        groups.append(f"<p class='soft'>{left_out} more groups are not shown; --json has all.</p>")
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        summary=escape(f"{summary(found)}. {found.model_id}"), groups="".join(groups)
    )


def _figure(picture: Scanned, told: str) -> str:
    size = f"{picture.width}x{picture.height}"
    return (
        f"<figure><img alt='' src='{_thumbnail(picture.file)}'><figcaption>{told}<br>{escape(picture.name)}<br>"
        f"{size}</figcaption></figure>"
    )


def _thumbnail(file: Path) -> str:
    with Image.open(file) as image:
        image.draft("RGB", (_SIDE, _SIDE))
        return thumbnail_url(upright_rgb(image), _SIDE)
