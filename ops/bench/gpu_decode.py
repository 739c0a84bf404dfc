"""nvJPEG beside the CPU's cores, for `ops.bench.gpu`. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from models.preprocess import SIDE, reduce
from ops.bench.edited import as_jpegs, as_phone_jpegs, decode_rate
from ops.bench.photos import PHONE_SIZE
from ops.bench.told import Told

BATCH = 64
JPEGS = 2_048
PHONE_JPEGS = 128


def gpu_decode(photos: Sequence[bytes]) -> dict[str, Any]:
    """Images/s of nvJPEG, of the photos as JPEGs and at 12 megapixels, beside all cores without a sandbox."""
    small, large = as_jpegs(photos[:JPEGS]), as_phone_jpegs(photos[:PHONE_JPEGS])
    name = "{}x{}".format(*PHONE_SIZE)
    found = Told()
    found["as given"] = _compared(small)
    found[name] = _compared(large)
    return found


def _compared(jpegs: Sequence[bytes]) -> dict[str, Any]:
    batches = [jpegs[n : n + BATCH] for n in range(0, len(jpegs), BATCH)]
    # The library's own start comes with its first batch.
    first = _on_gpu(batches[0])
    refused, done = 0, 0
    begun = time.perf_counter()
    for batch in batches:
        try:
            _on_gpu(batch)
            done += len(batch)
        except RuntimeError:
            refused += len(batch)
    torch.cuda.synchronize()
    taken_s = time.perf_counter() - begun
    differences = [_difference(content, picture) for content, picture in zip(batches[0], first, strict=True)]
    return {
        "jpegs": len(jpegs),
        "mean_bytes": sum(map(len, jpegs)) / len(jpegs),
        "in_refused_batches": refused,
        "gpu_images_per_s": done / taken_s,
        "cpu_images_per_s": decode_rate(jpegs),
        "mean_difference_of_255": float(np.mean(differences)),
    }


def _on_gpu(batch: Sequence[bytes]) -> list[torch.Tensor]:
    """uint8 [224, 224, 3] on the GPU for each; EXIF orientation is not heeded here."""
    encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in batch]
    small = []
    for picture in decode_jpeg(encoded, mode=ImageReadMode.RGB, device="cuda"):
        resized = torch.nn.functional.interpolate(
            picture[None].float(), (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False
        )
        small.append(resized[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0))
    return small


def _difference(content: bytes, picture: torch.Tensor) -> float:
    expected = reduce(Image.open(BytesIO(content)))
    return float(np.abs(expected.astype(np.int16) - picture.cpu().numpy().astype(np.int16)).mean())
