"""A stage from photos to weights: what is trained on, what judges, where it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from models.edits import EDITS
from models.network import PROJECTION, Backbone, CopyDetector, backbone_of, read_state
from models.photos import TUNE, UNSEEN, Photo, held_out, read_photos, split
from models.preprocess import reduce
from models.training.loop import Recipe, train
from models.training.views import Pictures
from schemas.events import Vector
from stream.errors import SettingError

JUDGED_PHOTOS, JUDGED_OTHERS = 100, 1_000
PHOTOS_MIN = 64
NEIGHBOUR_SIDE = 112
_BATCH = 64
RESULT = "model.safetensors"
# Names of torchvision's own classifier, which features alone do not have.
_FEATURES = "features."


def run_stage(
    paths: Sequence[Path],
    start: Path | None,
    out: Path,
    recipe: Recipe,
    say: Callable[[str], None],
    device: str,
    backbone: Backbone = "small",
) -> Path:
    """Train for `recipe.minutes`; the result, a safetensors file that `models.export` takes.

    Raises:
        SettingError: too few photos, or a start that is neither a whole network nor torchvision's features.
    """
    network = network_from(start, backbone)
    out.mkdir(parents=True, exist_ok=True)
    kept_out = held_out()
    found = {photo.sha256: photo for photo in read_photos(paths)}
    photos = [photo for sha256, photo in sorted(found.items()) if sha256 not in kept_out]
    if len(photos) < max(PHOTOS_MIN, recipe.batch):
        raise SettingError(f"{len(photos)} photos to train on; {max(PHOTOS_MIN, recipe.batch)} are needed for a batch")
    tuning = [found[sha256] for sha256 in sorted(found) if sha256 in split(TUNE)][:JUDGED_PHOTOS]
    others = [found[sha256] for sha256 in sorted(found) if sha256 in split(UNSEEN)][:JUDGED_OTHERS]
    say(f"{len(photos)} photos to train on, {len(tuning)} to judge by among {len(others)} others")
    pictures = Pictures.of(photos)
    judge = Judge(tuning, others) if tuning else None
    with ThreadPoolExecutor() as threads:
        squares = list(threads.map(_square, pictures))
    average = train(
        network, pictures, recipe, out, judge or (lambda _: {}),
        lambda judged: encode(judged, squares), say, device,
    )  # fmt: skip
    save_file({name: value.cpu().contiguous() for name, value in average.items()}, out / RESULT)
    return out / RESULT


class Judge:
    """Recall of edited tuning photos among others: the only photos that choose between checkpoints."""

    def __init__(self, tuning: Sequence[Photo], others: Sequence[Photo]) -> None:
        self._rows = [reduce(photo.open()) for photo in [*tuning, *others]]
        self._photos = len(tuning)
        with ThreadPoolExecutor() as threads:
            made = {name: [threads.submit(_query, name, photo) for photo in tuning] for name in EDITS}
            self._queries = {name: [query.result() for query in queries] for name, queries in made.items()}

    def __call__(self, network: CopyDetector) -> dict[str, float]:
        """Share of edited copies nearer to their original than any other pair's cosine at precision .99."""
        rows = encode(network, self._rows)
        own = np.arange(self._photos)
        right, wrong = [], []
        for inputs in self._queries.values():
            cosines = encode(network, inputs) @ rows.T
            right.append(np.where(cosines.argmax(axis=1) == own, cosines[own, own], -1.0))
            cosines[own, own] = -1.0
            wrong.append(cosines.max(axis=1))
        limit = np.quantile(np.concatenate(wrong), 0.99)
        recalls = {name: float((scores > limit).mean()) for name, scores in zip(self._queries, right, strict=True)}
        worst = sorted(recalls, key=recalls.__getitem__)[:5]
        return {"recall": float(np.mean(list(recalls.values()))), **{name: recalls[name] for name in worst}}


def _query(name: str, photo: Photo) -> NDArray[np.uint8]:
    return reduce(EDITS[name](photo.open(), Random(f"{name}:0:{photo.sha256}")))  # noqa: S311 - a seed


def encode(network: CopyDetector, inputs: Sequence[NDArray[np.uint8]]) -> Vector:
    """float32 [N, 256] of unit length, computed where the network lies."""
    device = next(network.parameters()).device
    batches = (torch.from_numpy(np.stack(inputs[start : start + _BATCH])) for start in range(0, len(inputs), _BATCH))
    with torch.inference_mode():
        return np.concatenate([network(batch.to(device)).cpu().numpy() for batch in batches])


def network_from(start: Path | None, backbone: Backbone = "small") -> CopyDetector:
    """A network to start from: random, a whole one, or torchvision's MobileNetV3 with a new head.

    Raises:
        SettingError: the file is neither, or of the other backbone.
    """
    network = CopyDetector(backbone)
    if start is None:
        return network
    try:
        tensors = read_state(start)
        whole = PROJECTION in tensors
        if whole and backbone_of(tensors) != backbone:
            raise ValueError(f"it has the backbone {backbone_of(tensors)}, --backbone says {backbone}")  # noqa: TRY301
        wanted = tensors if whole else {name: value for name, value in tensors.items() if name.startswith(_FEATURES)}
        missing, unexpected = network.load_state_dict(wanted, strict=False)
    except Exception as error:
        raise SettingError(f"--from: {start} holds no weights of this network: {error}") from error
    lacking = [
        name for name in missing if not name.endswith("num_batches_tracked") and (whole or name.startswith(_FEATURES))
    ]
    if unexpected or lacking:
        raise SettingError(f"--from: {start} does not fit: lacks {lacking[:3]}, has {list(unexpected)[:3]}")
    return network


def _square(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((NEIGHBOUR_SIDE, NEIGHBOUR_SIDE), Image.Resampling.BILINEAR), dtype=np.uint8)
