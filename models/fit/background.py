"""Choose, encode and write the background vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from models.encoder import load_encoder
from models.fit.photos import Photo, encode_all, read_photos
from models.manifest import BACKGROUND, Manifest, refresh_manifest

COUNT = 2173


def choose(photos: Iterable[tuple[str, str]], count: int = COUNT) -> list[str]:
    """SHA-256 of the chosen among (group, SHA-256): the groups in turn, each in the order of its hashes.

    No group has more than one photo more than another, as long as it has any left. Groups that differ
    only in a trailing `_a`, `_b`, ... are one source.
    """
    sources: dict[str, list[str]] = defaultdict(list)
    for group, sha256 in photos:
        head, _, tail = group.rpartition("_")
        sources[head if len(tail) == 1 and head else group].append(sha256)
    turns = zip_longest(*(sorted(sources[name]) for name in sorted(sources)))
    return [sha256 for sha256 in chain.from_iterable(turns) if sha256 is not None][:count]


def photo_id(sha256: str) -> int:
    """The first 64 bits of a hash: enough to know a photo again."""
    return int(sha256[:16], 16)


def fit_background(folder: Path, shards: list[Path]) -> Manifest:
    """Write background.npz (float16 vectors and photo ids) and the manifest, whose model id changes with it."""
    chosen = set(choose((photo.group, photo.sha256) for photo in read_photos(shards)))
    photos: list[Photo] = [photo for photo in read_photos(shards) if photo.sha256 in chosen]
    vectors = encode_all(load_encoder("openvino", folder), (photo.open() for photo in photos))
    ids = np.array([photo_id(photo.sha256) for photo in photos], dtype=np.uint64)
    np.savez(folder / BACKGROUND, vectors=vectors.astype(np.float16), photo_ids=ids)
    return refresh_manifest(folder)
