"""The decision's score, of many pictures at once: what `stream.decision` says of one, as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.background import Background
from models.evaluation.metrics import Flags, Scores
from models.panels import COST
from models.perceptual import DISTANCE_MAX, FARTHEST, WEIGHT
from schemas.events import Vector

# `index.neighbours_max`: a row further down is no candidate, whatever its hash says.
NEAREST = 10
_BITS = 256
Places = NDArray[np.intp]


class Views(NamedTuple):
    """N pictures and their P panels.

    Attributes:
        whole: embeddings of the pictures, float32 [N, 256].
        hashes: their trusted PDQ as `baselines.trusted_row` makes it, float32 [N, 256].
        panels, panel_hashes: the same of the panels, [P, 256].
        owners: whose each panel is, [P].
    """

    whole: Vector
    hashes: Vector
    panels: Vector
    panel_hashes: Vector
    owners: Places

    def part(self, places: Sequence[int] | Places) -> Views:
        """Of these pictures, each once."""
        chosen = np.asarray(places, dtype=np.intp)
        new = np.full(len(self.whole), -1)
        new[chosen] = np.arange(len(chosen))
        kept = new[self.owners] >= 0
        return Views(
            self.whole[chosen], self.hashes[chosen], self.panels[kept], self.panel_hashes[kept],
            new[self.owners[kept]].astype(np.intp),
        )  # fmt: skip


def joined(parts: Sequence[Views]) -> Views:
    """Parts one after another; one at least."""
    starts = np.cumsum([0, *(len(part.whole) for part in parts)])
    owners = [part.owners + start for part, start in zip(parts, starts, strict=False)]
    whole, hashes, panels, panel_hashes, _ = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Views(whole, hashes, panels, panel_hashes, np.concatenate(owners))


class Decision:
    """Scores against rows. Without `hashes` or `panels`: what either is worth."""

    def __init__(
        self, background: Background, rows: Views, nearest: int | None = NEAREST, *, hashes: bool = True,
        panels: bool = True,
    ) -> None:  # fmt: skip
        self._background, self._rows, self._nearest = background, rows, nearest
        self._hashes, self._panels = hashes, panels
        self._row_bias = background.bias(rows.whole)

    def scores(self, queries: Views, *, own: bool = True) -> Scores:
        """[N, M]: each picture's best over itself and its panels; -inf where a row is not among the nearest.

        Args:
            own: row n is there for picture n; else it is hidden, before the nearest are taken.
        """
        places = np.arange(len(queries.whole))
        scores = self._scores(queries.whole, queries.hashes, None if own else places)
        if self._panels and len(queries.panels):
            hidden = None if own else queries.owners
            of_panels = self._scores(queries.panels, queries.panel_hashes, hidden) - np.float32(COST)
            np.maximum.at(scores, queries.owners, of_panels)
        return scores

    def agreed(self, queries: Views, found: Places) -> Flags:
        """[N]: whether the perceptual hash of the picture, or of a panel, is as near to the found row's as a copy's."""
        agreed: Flags = differing(queries.hashes, self._rows.hashes[found]) <= DISTANCE_MAX
        if self._panels:
            near = differing(queries.panel_hashes, self._rows.hashes[found[queries.owners]]) <= DISTANCE_MAX
            np.logical_or.at(agreed, queries.owners, near)
        return agreed

    def _scores(self, vectors: Vector, hashes: Vector, hidden: Places | None) -> Scores:
        similarity = vectors @ self._rows.whole.T
        if hidden is not None:
            similarity[np.arange(len(hidden)), hidden] = -np.inf
        scores: Scores = similarity - (self._background.bias(vectors)[:, None] + self._row_bias) / np.float32(2)
        if self._hashes:
            scores += agreement(_BITS / 2 * (1 - hashes @ self._rows.hashes.T))
        if self._nearest is not None and self._nearest < scores.shape[1]:
            far = np.argpartition(-similarity, self._nearest - 1, axis=1)[:, self._nearest :]
            np.put_along_axis(scores, far, -np.inf, axis=1)
        return scores


def pair_scores(
    of: Views, background: Background, pairs: Sequence[tuple[int, int]], *, either: bool = False
) -> tuple[Scores, Flags]:
    """Score of every pair, [pairs], the second being the later upload; and whether the hashes agree.

    Args:
        either: the higher score of the two orders.
    """
    bias, panel_bias = background.bias(of.whole), background.bias(of.panels)
    panels: dict[int, list[int]] = {}
    for panel, owner in enumerate(of.owners.tolist()):
        panels.setdefault(owner, []).append(panel)
    scores, agreed = np.empty(len(pairs), dtype=np.float32), np.empty(len(pairs), dtype=bool)
    for n, (a, b) in enumerate(pairs):
        bits = differing(of.hashes[[a]], of.hashes[[b]])
        score = of.whole[a] @ of.whole[b] - (bias[a] + bias[b]) / 2 + agreement(bits)[0]
        for one, other in ((b, a), (a, b)) if either else ((b, a),):
            for panel in panels.get(one, ()):
                own_bits = differing(of.panel_hashes[[panel]], of.hashes[[other]])
                alone = of.panels[panel] @ of.whole[other] - (panel_bias[panel] + bias[other]) / 2 - COST
                score, bits = max(score, alone + agreement(own_bits)[0]), np.minimum(bits, own_bits)
        scores[n], agreed[n] = score, bits[0] <= DISTANCE_MAX
    return scores, agreed


def differing(some: Vector, others: Vector) -> Vector:
    """Bits in which hashes differ, row by row, [N]; half of them where one is not trusted."""
    bits: Vector = _BITS / 2 * (1 - (some * others).sum(axis=1))
    return bits.round()


def agreement(bits: Vector) -> Vector:
    """`models.perceptual.agreement` of many."""
    added: Vector = (WEIGHT * np.maximum(0, 1 - bits / FARTHEST)).astype(np.float32)
    return added
