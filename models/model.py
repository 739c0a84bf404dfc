"""The model a deployment judges by: its id, thresholds and background, without a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.background import Background
from models.calibration import Calibration
from models.manifest import BUILT_IN, read_manifest


@dataclass(frozen=True, slots=True)
class Model:
    """What every stage needs of the weights folder."""

    model_id: str
    calibration: Calibration
    background: Background


def load_model(weights: Path | None = None) -> Model:
    """The model of a weights folder; the built-in one if None.

    Raises:
        SettingError: the folder is incomplete or damaged.
    """
    folder = weights or BUILT_IN
    return Model(read_manifest(folder).model_id, Calibration.load(folder), Background.load(folder))
