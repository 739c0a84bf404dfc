"""Promise: the bias of a picture is the weighted mean cosine to its nearest background vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.background import NEAREST, Background
from models.fit.background import COUNT, choose
from models.manifest import BACKGROUND, BUILT_IN, refresh_manifest
from schemas.events import Vector
from stream.errors import SettingError


def unit(seed: int, rows: int) -> Vector:
    vectors = np.random.default_rng(seed).normal(size=(rows, 256)).astype(np.float32)
    scaled: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


@given(st.integers(0, 1000), st.integers(NEAREST, 60), st.integers(1, 5))
def test_bias_equals_its_plain_twin(seed: int, background_rows: int, rows: int) -> None:
    """The fast path is the definition, sorted out by hand. Break: NEAREST + 1 in the partition."""
    background, vectors = Background(unit(seed, background_rows), weight=1.5), unit(seed + 1, rows)
    plain = [1.5 * np.sort([float(vector @ other) for other in background.vectors])[-5:].mean() for vector in vectors]
    assert np.allclose(background.bias(vectors), plain, atol=1e-5)
    assert background.bias(vectors).dtype == np.float32


def test_built_in_background_is_whole() -> None:
    """2,173 unit vectors, although they are kept as float16. Break: skip the normalisation in `load`."""
    background = Background.load()
    assert background.vectors.shape == (COUNT, 256)
    assert background.vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(background.vectors, axis=1) - 1).max() < 1e-6
    assert (BUILT_IN / BACKGROUND).stat().st_size < 1_300_000


def test_a_background_comes_back_as_it_was(tmp_path: Path) -> None:
    """Which photos, how many neighbours and what weight are part of the file. Break: leave out the weight."""
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))
    kept = Background(unit(1, 30), frozenset({int("ab" * 8, 16)}), nearest=3, weight=0.5)
    kept.save(folder / BACKGROUND)
    refresh_manifest(folder)
    found = Background.load(folder)
    assert np.allclose(found.vectors, kept.vectors, atol=1e-3)
    assert (found.photo_ids, found.nearest, found.weight) == (kept.photo_ids, 3, 0.5)
    assert found.holds("ab" * 32)
    assert not found.holds("cd" * 32)


def test_scores_are_cosines_less_half_of_both_biases() -> None:
    """All pairs at once. Break: take the query's bias alone."""
    background, queries, rows = Background(unit(1, 30)), unit(2, 3), unit(3, 4)
    scores = background.against(rows)(queries)
    for n, m in np.ndindex(3, 4):
        bias = (background.bias(queries[n : n + 1]) + background.bias(rows[m : m + 1])) / 2
        assert scores[n, m] == pytest.approx(float(queries[n] @ rows[m] - bias[0]), abs=1e-5)


def test_company_does_not_change_a_bias() -> None:
    """A picture's bias is the same alone and in a batch. Break: take the 20 nearest over the whole batch."""
    background, vectors = Background.load(), unit(3, 40)
    alone = np.concatenate([background.bias(vectors[row : row + 1]) for row in range(len(vectors))])
    assert np.allclose(background.bias(vectors), alone, atol=1e-5)


def test_no_picture_has_no_bias() -> None:
    """An empty batch is an empty answer. Break: return `nearest.mean()` without the axis."""
    assert Background.load().bias(np.empty((0, 256), np.float32)).shape == (0,)


def test_damaged_background_is_refused(tmp_path: Path) -> None:
    """A changed background would change every score: it is refused. Break: skip `verified`."""
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))
    content = bytearray((folder / BACKGROUND).read_bytes())
    content[5000] ^= 1
    (folder / BACKGROUND).write_bytes(content)
    with pytest.raises(SettingError, match="is damaged"):
        Background.load(folder)


@given(st.lists(st.text("0123456789abcdef", min_size=4, max_size=4)), st.integers(0, 10))
def test_choice_does_not_depend_on_the_order(hashes: list[str], count: int) -> None:
    """The same photos are chosen however the shards are read, each once. Break: drop `sorted`."""
    assert choose(hashes, count) == choose(reversed(hashes), count)
    assert len(set(choose(hashes, count))) == min(count, len(set(hashes)))
