"""The reference runtime, and the oracle in tests: torch on a CPU, float32."""

from __future__ import annotations

import numpy as np
import torch

from models.network import load_network
from models.preprocess import Pixels
from models.runtimes import checked
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import EncoderBroken


class TorchEncoder:
    """Runs the safetensors weights eagerly. The number of threads is the whole process's."""

    runtime = "torch"

    def __init__(self, safetensors: bytes, model_id: str, threads: int) -> None:
        self.model_id = model_id
        if threads:
            torch.set_num_threads(threads)
        try:
            self._network = load_network(safetensors)
        except RuntimeError as error:
            raise EncoderBroken(f"torch cannot load {model_id}: {error}") from error

    def encode(self, images: Pixels) -> Vector:
        """See `models.encoder.Encoder`."""
        batch = checked(images)
        if not len(batch):
            return np.empty((0, EMBEDDING_SIZE), dtype=np.float32)
        # torch refuses read-only memory with a warning, and Pillow's arrays are read-only.
        batch = batch if batch.flags.writeable else batch.copy()
        try:
            with torch.inference_mode():
                vectors: Vector = self._network(torch.from_numpy(batch)).numpy()
        except RuntimeError as error:
            raise EncoderBroken(f"torch failed on {len(batch)} pictures: {error}") from error
        return vectors
