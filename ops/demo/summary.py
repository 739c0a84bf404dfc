"""The run in words, for the terminal."""

from __future__ import annotations

from ops.demo.run import Report
from ops.demo.tally import Outcome
from ops.demo.traffic import IN_FLIGHT_MAX


def summary(report: Report) -> list[str]:
    """The totals, a line each."""
    counted = report.totals
    counts = counted.counts
    lines = ["", f"{len(report.collection.photos)} photographs: {report.collection.origin}"]
    lines += [f"  {photo.name}: {photo.source}; {photo.licence}" for photo in report.collection.photos if photo.licence]
    lines += [f"  {name}: skipped, it does not open as a picture" for name in report.collection.skipped]
    lines += [
        "",
        f"uploads      {counted.sent} sent, {counted.judged} judged, {counted.lost} lost",
        f"speed        {counted.images_per_s:.0f} images/s; upload to verdict p50 {_ms(counted.latency_p50_s)}, "
        f"p99 {_ms(counted.latency_p99_s)} with up to {IN_FLIGHT_MAX} in flight",
        f"copies       {counts[Outcome.FOUND]} of {counted.copies} found, {counts[Outcome.REVIEW]} left to review, "
        f"{counts[Outcome.MISSED]} missed",
        f"false        {counts[Outcome.FALSE]} judged a duplicate of another photograph",
        f"repeats      {counts[Outcome.REPEATED]} of the sender's repeats recognised",
    ]
    lines += _rare(report)
    return [*lines, "", *provisional(report)]


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
    counts = report.totals.counts
    lines = [f"second view  {second}" for second in second_views(report)]
    if counts[Outcome.ALIKE]:
        lines.append(f"your folder  {counts[Outcome.ALIKE]} of its own pictures judged a duplicate of another one; see the page")
    if counts[Outcome.DEAD_LETTER]:
        lines.append(f"dead letters {counts[Outcome.DEAD_LETTER]}")
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


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


