"""The benchmark of ENCODE's own code runs that code: every upload is decoded, encoded and committed."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.preprocess import SIDE, Pixels, reduce
from ops.bench import edited
from ops.bench.stage import stage_rate
from schemas.events import Vector
from stream.config import Settings
from stream.intake.decode import Decoded
from tests.support.photos import jpeg, photo


class Counting:
    """Counts pictures and answers with unit vectors."""

    model_id, runtime = "made-up", "made-up"

    def __init__(self) -> None:
        self.pictures = 0
        self.values: set[int] = set()

    def encode(self, images: Pixels) -> Vector:
        self.pictures += len(images)
        self.values |= set(np.unique(images).tolist())
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


def test_decoding_is_left_out() -> None:
    """What was decoded before is what is encoded. Break: decode all the same."""
    grey = np.full((SIDE, SIDE, 3), 7, dtype=np.uint8)
    ready = [Decoded(grey, "0" * 64, 100, SIDE, SIDE, "JPEG", {})]
    encoder = Counting()
    assert stage_rate(Settings(), encoder, [jpeg(photo("coffee.png"))], 40, 120, ready) > 0
    assert (encoder.pictures, encoder.values) == (40, {7})


def test_pictures_of_the_gpu_benchmark() -> None:
    """Every photo has an edit, and the same one in every run; decoding them has a rate. Break: an unseeded `Random`."""
    photos = [jpeg(photo("coffee.png")), jpeg(photo("astronaut.png"))]
    originals, edits = edited.pairs(photos)
    assert originals.shape == edits.shape == (2, SIDE, SIDE, 3)
    assert (originals[0] == reduce(Image.open(BytesIO(photos[0])))).all()
    assert (originals != edits).any(axis=(1, 2, 3)).all()
    assert (edited.pairs(photos)[1] == edits).all()
    assert edited.decode_rate(edited.as_jpegs(photos)) > 0
