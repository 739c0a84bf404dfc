"""The run in words, for the terminal."""

from __future__ import annotations

from ops.demo.run import Report
from ops.demo.tally import Outcome
from ops.demo.traffic import IN_FLIGHT_MAX


def summary(report: Report) -> list[str]:
    """The totals, a line each."""
    counted = report.totals
    copies, photographs = counted.copies, counted.photographs
    lines = ["", f"{len(report.collection.photos)} photographs: {report.collection.origin}"]
    lines += [f"  {photo.name}: {photo.source}; {photo.licence}" for photo in report.collection.photos if photo.licence]
    lines += [f"  {name}: skipped, it does not open as a picture" for name in report.collection.skipped]
    lines += [
        "",
        f"uploads      {counted.sent} sent, {counted.judged} judged, {counted.lost} lost",
        f"speed        {counted.images_per_s:.0f} images/s; upload to verdict p50 {ms(counted.latency_p50_s)}, "
        f"p99 {ms(counted.latency_p99_s)}, with up to {IN_FLIGHT_MAX} in flight",
        f"copies       {sum(copies.values())}: {copies[Outcome.FOUND]} found, {copies[Outcome.REVIEW]} left to review, "
        f"{copies[Outcome.MISSED]} missed, {copies[Outcome.FALSE]} taken for a copy of another photograph",
        f"photographs  {sum(photographs.values())}: {photographs[Outcome.NEW]} new, "
        f"{photographs[Outcome.REVIEW]} left to review, {photographs[Outcome.FALSE]} taken for a copy of another one",
        f"repeats      {sum(counted.repeats.values())}: {counted.repeats[Outcome.REPEATED]} recognised",
    ]
    return [*lines, *_rare(report), "", *provisional(report)]


def provisional(report: Report) -> list[str]:
    """What must not be taken for a measurement of dejaview."""
    calibration = report.model.calibration
    thresholds = (
        f"The thresholds ({calibration.duplicate_threshold:.3f} duplicate, {calibration.review_threshold:.3f} review) "
        f"and confidences of {report.model.model_id}"
    )
    lines = []
    if calibration.provisional:
        lines.append(f"{thresholds} are provisional: fitted on a small set of made edits.")
    return [*lines, "The edits are made by a program, and the copies are few: this shows the work, it measures no accuracy."]


def _rare(report: Report) -> list[str]:
    counted = report.totals
    dead_letters = counted.count(Outcome.DEAD_LETTER) + counted.repeats[Outcome.DEAD_LETTER]
    lines = [f"second view  {second}" for second in second_views(report)]
    if counted.photographs[Outcome.ALIKE]:
        lines.append(f"your folder  {counted.photographs[Outcome.ALIKE]} of its pictures judged a duplicate of another; see the page")
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


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


