"""The encoder: one protocol, several runtimes, and the check that a runtime computes what it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from models import golden
from models.manifest import BUILT_IN, GOLDEN, ONNX, SAFETENSORS, read_manifest, verified
from models.preprocess import Pixels
from schemas.events import Vector
from stream.errors import SettingError

RuntimeName: TypeAlias = Literal["auto", "openvino", "torch", "tensorrt"]


class Encoder(Protocol):
    """Pictures to embeddings. Any thread may call it, one at a time."""

    @property
    def model_id(self) -> str:
        """Which weights and preprocessing; fingerprints of different ids are never compared."""

    @property
    def runtime(self) -> str:
        """What computes: openvino, torch or tensorrt."""

    def encode(self, images: Pixels) -> Vector:
        """uint8 [N, 224, 224, 3] of `preprocess.reduce` -> float32 [N, 256], each of L2 norm 1. N may be 0.

        Raises:
            ValueError: another shape or type.
            EncoderBroken: the runtime failed.
        """


def load_encoder(runtime: RuntimeName = "auto", weights: Path | None = None, threads: int = 0) -> Encoder:
    """An encoder that has reproduced the golden vectors.

    Args:
        runtime: `auto` takes the first that is available of tensorrt, openvino, torch.
        weights: a weights folder; the built-in one if None.
        threads: of the runtime; 0 is one per core.

    Raises:
        SettingError: the runtime is not available, or the weights folder is incomplete or damaged.
        ParityFailed: the runtime computes something else than the reference did.
        EncoderBroken: the runtime failed on the golden pictures.
    """
    folder = weights or BUILT_IN
    manifest = read_manifest(folder)
    seat = _RUNTIMES[_first_available() if runtime == "auto" else runtime]
    weights_bytes = verified(folder, manifest, (seat.file, GOLDEN))[seat.file]
    encoder = seat.open(weights_bytes, manifest.model_id, threads)
    golden.check_parity(folder, encoder.runtime, encoder.encode)
    return encoder


@dataclass(frozen=True, slots=True)
class _Runtime:
    """A seat in the registry: what must be installed, which weights file it reads, how it is opened."""

    packages: tuple[str, ...]
    file: str
    open: Callable[[bytes, str, int], Encoder]
    released: bool = True

    @property
    def available(self) -> bool:
        return self.released and all(find_spec(package) is not None for package in self.packages)


def _first_available() -> str:
    for name, seat in _RUNTIMES.items():
        if seat.available:
            return name
    raise SettingError("model.runtime: neither openvino nor torch is installed; pip install openvino")


def _open_tensorrt(_content: bytes, _model_id: str, _threads: int) -> Encoder:
    raise SettingError(
        "model.runtime: tensorrt comes with a later release; set model.runtime to auto, openvino or torch"
    )


def _open_openvino(content: bytes, model_id: str, threads: int) -> Encoder:
    try:
        from models.runtimes.openvino import OpenvinoEncoder  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise SettingError(f"model.runtime: openvino is not usable here ({error}); pip install openvino") from error
    return OpenvinoEncoder(content, model_id, threads)


def _open_torch(content: bytes, model_id: str, threads: int) -> Encoder:
    try:
        from models.runtimes.torch import TorchEncoder  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise SettingError(
            f"model.runtime: torch is not usable here ({error}); pip install 'dejaview[torch]'"
        ) from error
    return TorchEncoder(content, model_id, threads)


# In the order `auto` tries them.
_RUNTIMES = {
    "tensorrt": _Runtime(("torch_tensorrt",), SAFETENSORS, _open_tensorrt, released=False),
    "openvino": _Runtime(("openvino",), ONNX, _open_openvino),
    "torch": _Runtime(("torch", "torchvision", "safetensors"), SAFETENSORS, _open_torch),
}
