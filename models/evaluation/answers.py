"""The best row of every query, by one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Flags, Scores

Q = TypeVar("Q")
Q_contra = TypeVar("Q_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Answers:
    """Every query is asked twice: with its original among the rows, and without.

    Arrays are [edits, photos]: the best score and the place of its row.
    """

    with_score: Scores
    with_row: NDArray[np.intp]
    right: Flags
    without_score: Scores
    without_row: NDArray[np.intp]

    @property
    def positives(self) -> int:
        return self.with_score.size

    @property
    def photos(self) -> int:
        return len(self.with_score.T)

    def of_photos(self, photos: NDArray[np.intp]) -> Answers:
        """Of these photos, each as often as it is named."""
        return Answers(
            self.with_score[:, photos], self.with_row[:, photos], self.right[:, photos],
            self.without_score[:, photos], self.without_row[:, photos],
        )  # fmt: skip

    def flat(self) -> tuple[Scores, Flags]:
        """Score and rightness of all answers, those with an original first."""
        scores = np.concatenate([self.with_score.ravel(), self.without_score.ravel()])
        return scores, np.concatenate([self.right.ravel(), np.zeros(self.without_score.size, dtype=bool)])

    def decided_rightly(self, threshold: float) -> Flags:
        """Of every answer: the original found at or above the threshold; without an original nothing found."""
        return np.concatenate(
            [(self.right & (self.with_score >= threshold)).ravel(), (self.without_score < threshold).ravel()]
        )

    def agreed(self, queries: Sequence[Q], agree: Callable[[Q, NDArray[np.intp]], Flags]) -> Flags:
        """Of every answer, in the order of `flat`: whether a second signal says the same of the row that was found."""
        pairs = [
            agree(query, found[edit])
            for found in (self.with_row, self.without_row)
            for edit, query in enumerate(queries)
        ]
        return np.concatenate(pairs)

    def recall_per_edit(self, threshold: float) -> list[float]:
        """Share of photos whose original is found at or above the threshold."""
        return [float(share) for share in (self.right & (self.with_score >= threshold)).mean(axis=1)]


class Compare(Protocol[Q_contra]):
    """One method's scores of the N queries of an edit, [N, M] against M rows."""

    def __call__(self, queries: Q_contra, *, own: bool) -> Scores:
        """Without `own`, row n is not there for query n: -inf."""


def ask(queries: Sequence[Q], compare: Compare[Q]) -> Answers:
    """Ask for the queries of every edit, photo n's original being row n."""
    parts = []
    for query in queries:
        scores, others = compare(query, own=True), compare(query, own=False)
        own, with_row, without_row = np.arange(len(scores)), scores.argmax(axis=1), others.argmax(axis=1)
        parts.append((scores[own, with_row], with_row, with_row == own, others[own, without_row], without_row))
    return Answers(*(np.stack(part) for part in zip(*parts, strict=True)))
