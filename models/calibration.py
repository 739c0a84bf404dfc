"""From score to verdict: the model's thresholds, and the probability that a score means a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.manifest import BUILT_IN, CALIBRATION, read_manifest, verified
from stream.errors import SettingError

Probability = Annotated[float, Field(ge=0, le=1)]


class Calibration(BaseModel):
    """The content of `calibration.json`: thresholds and table, and how they were come by."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    format: int = 1
    provisional: Annotated[bool, Field(description="fitted on a small set of made edits; fit it on your own uploads")]
    model_id: str
    duplicate_threshold: Annotated[float, Field(description="`duplicate` at or above this score")]
    review_threshold: Annotated[float, Field(description="`review` from this score to the one above")]
    scores: Annotated[list[float], Field(min_length=2, description="the table's scores, rising")]
    probabilities: Annotated[list[Probability], Field(min_length=2, description="P(copy) at each, never falling")]
    fitted_on: Annotated[dict[str, int], Field(description="counts of photos and queries")]
    measured: Annotated[dict[str, float], Field(description="precision and recall at both thresholds, same queries")]
    recall_per_edit: Annotated[dict[str, float], Field(description="recall at duplicate_threshold, same queries")]
    rule: str
    command: str

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"{len(self.scores)} scores and {len(self.probabilities)} probabilities")
        if not all(low < high for low, high in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("the table's scores do not rise")
        if not all(low <= high for low, high in zip(self.probabilities, self.probabilities[1:], strict=False)):
            raise ValueError("the table's probabilities fall")
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
            raise SettingError(f"model.weights: {folder / CALIBRATION} is malformed: {error}") from error
        if calibration.model_id != manifest.model_id:
            raise SettingError(
                f"model.weights: {folder / CALIBRATION} was fitted for {calibration.model_id}, "
                f"the folder holds {manifest.model_id}; run python -m models.fit calibration again"
            )
        return calibration

    def confidence(self, score: float) -> float:
        """P(copy | score), 0 to 1: linear between the table's points, level outside them."""
        return float(np.interp(score, self.scores, self.probabilities))
