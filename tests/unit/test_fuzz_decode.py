"""R6: damaged pictures are decoded or refused, in this process and through the decoder processes.

Seeded: `derandomize` takes the same examples in every run; `make fuzz` looks further, with a seed that it prints.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.errors import ItemError
from stream.intake.decode import configure_pillow
from tests.fuzz import targets
from tests.fuzz.seeds import pictures
from tests.unit.intake_children import photo, pools

seeded = settings(derandomize=True, max_examples=300, deadline=10_000, suppress_health_check=list(HealthCheck))
SEEDS = pictures()
NAMES = sorted(SEEDS)


@pytest.fixture(autouse=True)
def pillow() -> Iterator[None]:
    """Pillow's limits as in a decoder process, and back afterwards."""
    with targets.pillow_restored():
        configure_pillow(targets.LIMITS)
        yield


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound picture with bits flipped, bytes put in, parts cut out, cut off, or spliced with another."""
    data = bytearray(SEEDS[draw(st.sampled_from(NAMES))])
    for kind in draw(st.lists(st.sampled_from(["flip", "put", "cut", "end", "splice"]), min_size=1, max_size=4)):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[place:place] = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff"]))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "end":
            del data[place:]
        else:
            other = SEEDS[draw(st.sampled_from(NAMES))]
            data[place:] = other[draw(st.integers(0, len(other) - 1)) :]
    return bytes(data)


@seeded
@given(damaged())
def test_damaged_pictures_in_this_process(data: bytes) -> None:
    """Pixels of the right shape within the limits, or `UndecodableError`; nothing else is raised, whatever is damaged.
    Break, tried: let OSError out of `_guard`. (Rarer classes and sizes: `test_intake_decode.py`.)
    """
    targets.picture(data)


def test_the_seeds_themselves_are_pictures() -> None:
    """What is damaged is sound to begin with: each kind reaches the end. Break, tried: a seed cut in half."""
    assert [name for name in NAMES if targets.picture(SEEDS[name]) is None] == []


def test_damaged_pictures_in_a_decoder_process() -> None:
    """Through the pool the same: a picture or `ItemError`, and the process is there for the next.
    Break, tried: let `UndecodableError` out of `DecoderPool._attempt`.
    """
    chance = random.Random(7)
    with pools() as make:
        pool = make(pixels_max=targets.LIMITS.pixels_max, side_max=targets.LIMITS.side_max)
        for number in range(60):
            data = bytearray(SEEDS[NAMES[number % len(NAMES)]])
            for _ in range(chance.choice((1, 5, 50))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                assert pool.decode(bytes(data)).pixels.shape == (224, 224, 3)
            except ItemError as error:
                assert error.detail  # noqa: PT017 - both outcomes are right
        assert pool.decode(photo()).width == 300
