"""From score to verdict: the model's thresholds, and the probability that a score means a copy."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.manifest import BUILT_IN, CALIBRATION, read_manifest, verified
from stream.errors import SettingError

Probability = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """P(copy | score) at some scores; linear between them, level outside."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scores: Annotated[list[float], Field(min_length=2, description="rising")]
    probabilities: Annotated[list[Probability], Field(min_length=2, description="never falling")]

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"{len(self.scores)} scores and {len(self.probabilities)} probabilities")
        if not all(low < high for low, high in pairwise(self.scores)):
            raise ValueError("the table's scores do not rise")
        if not all(low <= high for low, high in pairwise(self.probabilities)):
            raise ValueError("the table's probabilities fall")
        return self

    def at(self, score: float) -> float:
        """P(copy | score). `numpy.interp` gives the same and takes ten times as long for one score."""
        if math.isnan(score):
            return score
        above = bisect_right(self.scores, score)
        if above == 0:
            return self.probabilities[0]
        if above == len(self.scores):
            return self.probabilities[-1]
        (low, high), (first, second) = self.scores[above - 1 : above + 1], self.probabilities[above - 1 : above + 1]
        return (second - first) / (high - low) * (score - low) + first


class Calibration(BaseModel):
    """The content of `calibration.json`: thresholds and tables, and how they were come by."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    format: Literal[3] = 3
    model_id: str
    duplicate_threshold: Annotated[float, Field(description="`duplicate` at or above this score")]
    review_threshold: Annotated[float, Field(description="`review` from this score to the one above")]
    alone: Annotated[Table, Field(description="where the perceptual hashes are not near enough to speak")]
    agreed: Annotated[Table, Field(description="where the perceptual hash says so, too")]
    fitted_on: Annotated[dict[str, int], Field(description="counts of photos and queries")]
    measured: Annotated[
        dict[str, float], Field(description="what the thresholds come to on the same queries, and counts")
    ]
    recall_per_edit: Annotated[dict[str, float], Field(description="recall at duplicate_threshold, same queries")]
    rule: str
    command: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.review_threshold > self.duplicate_threshold:
            raise ValueError("review_threshold is above duplicate_threshold")
        return self

    @classmethod
    def load(cls, weights: Path | None = None) -> Calibration:
        """The calibration of a weights folder; of the built-in one if None.

        Raises:
            SettingError: the folder is incomplete, damaged or was calibrated with another model.
        """
        folder = weights or BUILT_IN
        manifest = read_manifest(folder)
        content = verified(folder, manifest, (CALIBRATION,))[CALIBRATION]
        try:
            calibration = cls.model_validate_json(content)
        except ValidationError as error:
            if any(fault["loc"] == ("format",) for fault in error.errors()):
                raise SettingError(
                    f"model.weights: {folder / CALIBRATION} is of another release, whose scores were others; run "
                    "python -m models.fit calibration again"
                ) from error
            raise SettingError(f"model.weights: {folder / CALIBRATION} is malformed: {error}") from error
        if calibration.model_id != manifest.model_id:
            raise SettingError(
                f"model.weights: {folder / CALIBRATION} was fitted for {calibration.model_id}, "
                f"the folder holds {manifest.model_id}; run python -m models.fit calibration again"
            )
        return calibration

    def confidence(self, score: float, *, agreed: bool = False) -> float:
        """P(copy | score), 0 to 1. `agreed`: the perceptual hashes are near; that never makes it less likely."""
        alone = self.alone.at(score)
        return max(alone, self.agreed.at(score)) if agreed else alone

    def confidences(self, scores: NDArray[np.floating], agreed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of many, [N]."""
        alone = np.interp(scores, self.alone.scores, self.alone.probabilities)
        together = np.interp(scores, self.agreed.scores, self.agreed.probabilities)
        found: NDArray[np.float64] = np.where(agreed, np.maximum(alone, together), alone)
        return found
