"""The figures as tables, the same for the terminal, Markdown and the page."""

from __future__ import annotations

from models.evaluation.metrics import Interval
from models.evaluation.queries import OURS
from models.evaluation.result import Evaluation, Figures
from models.evaluation.table import Table


def tables(of: Evaluation) -> list[Table]:
    """All of them, the most telling first."""
    return [_methods(of), _deployed(of), _variants(of), _edits(of)]


def summary(of: Evaluation) -> list[str]:
    """What was asked of what, in sentences."""
    counts = of.counts
    lines = [
        (
            f"{of.model_id}; {counts.photos} photos, {counts.edits} edits of each: {counts.queries_with_original:,} "
            f"queries with their original among the rows, {counts.queries_without_original:,} without (1 to 1); "
            f"{counts.rows_unseen:,} rows unseen in training, {counts.rows_seen:,} seen."
        ),
        "An answer is the best row of a query: right when it is the original. Intervals: 95 %, bootstrap over photos.",
    ]
    if of.against_best_baseline and of.best_baseline:
        test = of.against_best_baseline
        lines.append(
            f"Against {of.best_baseline}, each at its own precision .99: {test.only_ours:,} queries only dejaview "
            f"answers rightly, {test.only_theirs:,} only {of.best_baseline}; McNemar p = {test.p_value:.2g}."
        )
    mix = of.paper_mix
    lines.append(
        f"IDedupNet's own edits, {mix.queries:,} queries, 1 to 1, at the deployed threshold: "
        f"precision {_3(mix.precision)}, recall {_3(mix.recall)}, F1 {_3(mix.f1)} (IDedupNet: .956)."
    )
    hard = of.hard_negatives
    if hard:
        lines.append(
            f"Hard negatives, {hard.pairs:,} pairs ({hard.definition}): {hard.duplicates} called duplicate "
            f"({100 * hard.duplicates / hard.pairs:.2f} %), {hard.reviews} to review."
        )
    else:
        lines.append("Hard negatives: none; give the project's photos, or ImageNet weights to find your own.")
    return lines


def _methods(of: Evaluation) -> Table:
    names = ["micro-AP", "recall at .90", "recall at .99", "mean over edits", "untrained edits"]
    return Table(
        "Methods",
        "Recall at a precision over all answers; the last two at precision .99, the mean of the edits' recalls.",
        ("", *names),
        [(name, *_row(figures)) for name, figures in of.methods.items()],
    )


def _variants(of: Evaluation) -> Table:
    return Table(
        "dejaview, with and without",
        "Panels: parts of a picture that look like pictures are asked for, too. PDQ: hashes that are near add to the "
        "score. Normalised: less half of both pictures' biases. Seen rows were pushed apart in training.",
        ("", "micro-AP", "recall at .90", "recall at .99", "mean over edits", "untrained edits"),
        [(name, *_row(figures)) for name, figures in {"as deployed": of.methods[OURS], **of.variants}.items()],
    )


def _deployed(of: Evaluation) -> Table:
    deployed = of.deployed
    return Table(
        "At the deployed thresholds",
        f"duplicate from {deployed.duplicate_threshold:.4f}, review from {deployed.review_threshold:.4f}",
        ("precision", "recall", "to review", "calibration error"),
        [
            (
                interval(deployed.precision), interval(deployed.recall), f"{100 * deployed.review_share:.1f} %",
                interval(deployed.calibration_error),
            )
        ],
    )  # fmt: skip


def _edits(of: Evaluation) -> Table:
    others = [name for name in of.methods if name != OURS]
    untrained = {edit for family in of.untrained for edit in of.families[family]}
    rows = [
        (
            f"{edit} *" if edit in untrained else edit,
            _3(of.deployed.recall_per_edit[edit]),
            *(_3(of.methods[name].recall_per_edit_at_99[edit]) for name in (OURS, *others)),
        )
        for edit in of.deployed.recall_per_edit
    ]
    return Table(
        "Recall per edit",
        "`deployed`: at the duplicate threshold; the others at each method's own precision .99. *: of a family that "
        "is never trained on.",
        ("", "deployed", OURS, *others),
        rows,
    )


def _row(figures: Figures) -> tuple[str, ...]:
    return tuple(
        interval(value)
        for value in (
            figures.micro_ap, figures.recall_at_90, figures.recall_at_99, figures.mean_recall_at_99,
            figures.untrained_recall_at_99,
        )
    )  # fmt: skip


def interval(of: Interval) -> str:
    """As in `.987 (.981-.992)`."""
    return f"{_3(of.value)} ({_3(of.low)}-{_3(of.high)})"


def _3(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
