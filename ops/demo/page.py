"""The run as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from pathlib import Path
from string import Template

from ops.demo.cards import Thumbnails, cards, edit_bars, photo_group, photo_table, section, tile
from ops.demo.run import Report
from ops.demo.summary import CAVEAT, duration
from ops.demo.tally import Judged, Outcome, Totals, per_edit
from ops.demo.traffic import IN_FLIGHT_MAX
from ops.demo.uploads import Kind

TEMPLATE = Path(__file__).with_name("page.html")

_READING = (
    "On a card the upload stands left and its match right. Similarity is the cosine of the two embeddings; score the "
    "similarity less what any two pictures have, plus what near hashes add; margin the score less the threshold; "
    "confidence the probability that it is a copy. Exact, perceptual and embedding are the evidence: the same bytes, a "
    "perceptual hash that is near or tipped the scale, a score at or above the threshold without it."
)

# What went wrong comes first; where nothing did, the section is left out.
_APART = (
    (
        Outcome.FALSE,
        "Taken for another photograph",
        "Judged a duplicate, wrongly. A photograph taken for another one is not kept: its copies meet the other.",
    ),
    (Outcome.MISSED, "Missed", "Copies judged unique, beside the nearest picture that was known."),
    (Outcome.REVIEW, "Left to review", "Between the two thresholds: for a person to look at."),
    (
        Outcome.ALIKE,
        "Alike in your folder",
        "Pictures of your folder judged a duplicate of another one in it. Whether rightly, only you can tell.",
    ),
    (
        Outcome.SECOND_VIEW,
        "The same scene from the side",
        "A second photograph of one scene, taken 19 cm to the side: a duplicate or not, as you like. Not counted.",
    ),
    (Outcome.DEAD_LETTER, "Dead letters", "Uploads that could not be judged, and why."),
)


def write_page(report: Report, file: Path) -> None:
    file.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page as HTML."""
    thumbnails = Thumbnails()
    parts = [_edits(report), *_apart(report, thumbnails), _photographs(report, thumbnails), _found(report, thumbnails)]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        headline=escape(_headline(report.totals)),
        tiles=_tiles(report.totals),
        note=f"<p>{escape(CAVEAT)}</p>",
        reading=escape(_READING),
        sections="".join(parts),
        footer=_footer(report),
        thumbnails=thumbnails.css(),
    )


def _headline(counted: Totals) -> str:
    return f"{counted.copies[Outcome.FOUND]} of {sum(counted.copies.values())} copies found"


def _tiles(counted: Totals) -> str:
    copies, repeats = sum(counted.copies.values()), sum(counted.repeats.values())
    review, missed, mistaken = (counted.count(o) for o in (Outcome.REVIEW, Outcome.MISSED, Outcome.FALSE))
    tiles = [
        tile(str(counted.copies[Outcome.FOUND]), "copies found", "good", f"/ {copies}"),
        tile(str(review), "left to review", "warn" if review else ""),
        tile(str(missed), "missed", "bad" if missed else ""),
        tile(str(mistaken), "taken for another photograph", "bad" if mistaken else ""),
        tile(str(counted.repeats[Outcome.REPEATED]), "sender's repeats recognised", "", f"/ {repeats}"),
        tile(str(counted.judged), "uploads judged", "bad" if counted.lost else "", f"/ {counted.sent}"),
        tile(f"{counted.images_per_s:.0f}", "images a second"),
        tile(duration(counted.latency_p50_s), f"upload to verdict, p99 {duration(counted.latency_p99_s)}"),
    ]
    return "".join(tiles)


def _edits(report: Report) -> str:
    text = "The share of photographs whose copy was found, hardest edit first."
    return section("By edit", text, edit_bars(per_edit(report.judged)))


def _apart(report: Report, thumbnails: Thumbnails) -> list[str]:
    known = {one.upload.upload_id: one.upload for one in report.judged if one.upload.kind is not Kind.REPEAT}
    parts = []
    for outcome, heading, text in _APART:
        own = [one for one in report.judged if one.outcome is outcome]
        own.sort(key=lambda one: one.upload.upload_id)
        if own:
            parts.append(section(f"{heading} ({len(own)})", text, cards(own, thumbnails, known)))
    return parts


def _found(report: Report, thumbnails: Thumbnails) -> str:
    """By photograph, the first one unfolded."""
    groups: list[str] = []
    for original in _sorted_by_name(report, {Kind.ORIGINAL}):
        name = original.upload.photo.name
        own = [one for one in report.judged if one.outcome is Outcome.FOUND and one.upload.photo.name == name]
        if own:
            groups.append(photo_group(original.upload, own, thumbnails, unfolded=not groups))
    return section("Found, by photograph", "The narrowest first.", "".join(groups))


def _photographs(report: Report, thumbnails: Thumbnails) -> str:
    originals = _sorted_by_name(report, {Kind.ORIGINAL, Kind.SECOND_VIEW})
    return section("The photographs", f"From {report.collection.origin}.", photo_table(originals, thumbnails))


def _sorted_by_name(report: Report, kinds: Collection[Kind]) -> list[Judged]:
    return sorted((one for one in report.judged if one.upload.kind in kinds), key=lambda one: one.upload.photo.name)


def _footer(report: Report) -> str:
    calibration = report.model.calibration
    return (
        f"Model <code>{escape(report.model.model_id)}</code>, duplicate at {calibration.duplicate_threshold:.4f}, "
        f"review at {calibration.review_threshold:.4f}. All stages in one program, over librdkafka's mock cluster and "
        f"Milvus Lite, at least once, with up to {IN_FLIGHT_MAX} uploads in flight: the latency is that of a full pipe."
    )
