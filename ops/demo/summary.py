"""The run in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from ops.demo.run import Report
from ops.demo.tally import Outcome, Totals
from ops.demo.traffic import IN_FLIGHT_MAX


def summary(report: Report) -> list[str]:
    """The totals, a line each."""
    counted = report.totals
    lines = ["", f"{len(report.collection.photos)} photographs: {report.collection.origin}"]
    lines += [f"  {photo.name}: {photo.source}; {photo.licence}" for photo in report.collection.photos if photo.licence]
    lines += [
        f"  {name}: skipped: it does not open, or is too small or too large" for name in report.collection.skipped
    ]
    lines += ["", *_speed(counted), *_outcomes(counted)]
    return [*lines, *_rare(report), "", CAVEAT]


def _speed(counted: Totals) -> list[str]:
    p50, p99 = duration(counted.latency_p50_s), duration(counted.latency_p99_s)
    return [
        f"uploads      {counted.sent} sent, {counted.judged} judged, {counted.lost} lost",
        f"speed        {counted.images_per_s:.0f} images/s, with up to {IN_FLIGHT_MAX} in flight",
        f"latency      p50 {p50}, p99 {p99}, from the upload to the verdict",
    ]


def _outcomes(counted: Totals) -> list[str]:
    copies, photographs, repeats = counted.copies, counted.photographs, counted.repeats
    new, review, false = (photographs[outcome] for outcome in (Outcome.NEW, Outcome.REVIEW, Outcome.FALSE))
    return [
        f"copies       {sum(copies.values())}: {copies[Outcome.FOUND]} found, {_wrong(copies)}",
        f"photographs  {sum(photographs.values())}: {new} new, {review} left to review, {false} taken for another",
        f"repeats      {sum(repeats.values())}: {repeats[Outcome.REPEATED]} recognised",
    ]


def _wrong(counts: Mapping[Outcome, int]) -> str:
    review, missed, false = (counts[outcome] for outcome in (Outcome.REVIEW, Outcome.MISSED, Outcome.FALSE))
    return f"{review} left to review, {missed} missed, {false} taken for another photograph"


CAVEAT = (
    "The edits are made by a program, and the copies are few: this shows the work. `dejaview eval` measures accuracy."
)


def _rare(report: Report) -> list[str]:
    counted = report.totals
    dead_letters = counted.count(Outcome.DEAD_LETTER) + counted.repeats[Outcome.DEAD_LETTER]
    lines = [f"second view  {second}" for second in second_views(report)]
    if counted.photographs[Outcome.ALIKE]:
        alike = counted.photographs[Outcome.ALIKE]
        lines.append(f"your folder  {alike} of its pictures judged a duplicate of another one; see the page")
    if dead_letters:
        lines.append(f"dead letters {dead_letters}")
    return lines


def second_views(report: Report) -> list[str]:
    """What was said of photographs of a scene that is there already."""
    return [
        f"{one.upload.photo.name} judged {one.verdict.verdict}, score {_score(one.verdict.score)}; counted neither way"
        for one in report.judged
        if one.outcome is Outcome.SECOND_VIEW and one.verdict is not None
    ]


def _score(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
