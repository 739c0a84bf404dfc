"""INDEX's progress chain against the ledger: the stages' own judgement, without a stage. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops.doctor.report import Finding, broken, or_ok, warning
from stream.errors import LedgerGap, PartitionCountChanged
from stream.index import MARKERS_LEFT_MAX
from stream.indexview import check_links
from stream.ledger import check_progress
from stream.neighbours.protocol import Link
from stream.progress import chain_end, sort_links

PROGRESS = "index progress"


def judge_progress(links: Sequence[Link], ledger_topic_id: str, ends: Mapping[int, tuple[int, int]]) -> list[Finding]:
    """Per ledger partition: is the chain this ledger's, within it, and at its end?

    Args:
        links: all of the index.
        ledger_topic_id: of the ledger as it is now.
        ends: ledger partition -> first offset and high watermark.
    """
    problems: dict[str, None] = {}
    behind: dict[int, int] = {}
    for partition, (low, high) in ends.items():
        own = sort_links(links, ledger_topic_id, partition, len(ends))
        try:
            check_links(own.other_ledgers, own.other_counts, ledger_topic_id, len(ends))
            progress = chain_end(own.own)
            check_progress(progress, low, high)
        except (LedgerGap, PartitionCountChanged) as error:
            problems[str(error)] = None
            continue
        behind[partition] = high - (progress.offset if progress is not None else low)
    findings = [broken(PROGRESS, *_cause_and_fix(problem)) for problem in problems]
    # INDEX leaves as many transaction markers unlinked in each partition.
    late = {partition: count for partition, count in behind.items() if count > MARKERS_LEFT_MAX}
    if late:
        findings.append(
            warning(
                PROGRESS,
                f"{sum(late.values())} ledger records of {len(late)} partitions are not in the index yet",
                "`dejaview run --stage index`, or wait while it works",
            )
        )
    return or_ok(findings, PROGRESS, f"{len(ends)} partitions, {sum(behind.values())} ledger records behind")


def _cause_and_fix(problem: str) -> tuple[str, str]:
    """These errors say the cause in their first sentence and the fix in the rest."""
    cause, _, fix = problem.partition(". ")
    return cause, fix
