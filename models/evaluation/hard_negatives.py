"""Pairs of photos that look alike and are no copies of each other.

The project's list (`models/splits/hard-negatives.txt`): of the 300 test photos and the 2,000 held-out ones, each
photo and its nearest others by ImageNet features (MobileNetV3-small, average pooled, cosine), less the pairs that
turned out to be true copies when looked at. Hashes are cut to 16 digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.photos import SPLITS, Photo
from schemas.events import Vector

LISTED = SPLITS / "hard-negatives.txt"
COPIES = SPLITS / "true-copies.txt"
NEIGHBOURS = 2
DIGITS = 16

Pair = tuple[int, int]


def listed(photos: Sequence[Photo]) -> list[Pair]:
    """The pairs of the project's list whose photos are both here, as places."""
    places = {photo.sha256[:DIGITS]: place for place, photo in enumerate(photos)}
    pairs = (line.split() for line in LISTED.read_text().splitlines())
    return [(places[one], places[other]) for one, other in pairs if one in places and other in places]


def mined(photos: Sequence[Photo], features: Vector) -> list[Pair]:
    """Each photo and its two nearest others, each pair once; known copies left out."""
    cosines = features @ features.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]
    found = {(min(a, int(b)), max(a, int(b))) for a, row in enumerate(nearest) for b in row}
    copies = {tuple(line.split()[:2]) for line in COPIES.read_text().splitlines()} if COPIES.exists() else set()
    hashes = [photo.sha256[:DIGITS] for photo in photos]
    return sorted(
        pair for pair in found if not {(hashes[pair[0]], hashes[pair[1]]), (hashes[pair[1]], hashes[pair[0]])} & copies
    )
