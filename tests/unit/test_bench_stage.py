"""The benchmark of ENCODE's own code runs that code: every upload is decoded, encoded and committed."""

from __future__ import annotations

import numpy as np
import pytest

from models.preprocess import Pixels
from ops.bench.stage import stage_rate
from schemas.events import Vector
from stream.config import Settings
from tests.support.photos import jpeg, photo


class Counting:
    """Counts pictures and answers with unit vectors."""

    model_id, runtime = "made-up", "made-up"

    def __init__(self) -> None:
        self.pictures = 0

    def encode(self, images: Pixels) -> Vector:
        self.pictures += len(images)
        return np.eye(256, dtype=np.float32)[: len(images)]


def test_every_upload_goes_through() -> None:
    """As many pictures reach the encoder as were asked for. Break: finish at the first commit."""
    encoder = Counting()
    photos = [jpeg(photo("astronaut.png")), jpeg(photo("coffee.png"))]
    assert stage_rate(Settings(), encoder, photos, 40, timeout_s=120) > 0
    assert encoder.pictures == 40


def test_a_stage_that_does_not_finish_is_said() -> None:
    """The time is up: an error, not a rate. Break: ignore what `wait` returns."""
    with pytest.raises(TimeoutError, match="of 4 after 0 s"):
        stage_rate(Settings(), Counting(), [jpeg(photo("coffee.png"))], 4, timeout_s=0)
