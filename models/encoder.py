"""The encoder: one protocol, several runtimes, the choice between them, and the check of what they compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from models import golden
from models.manifest import BUILT_IN, GOLDEN, ONNX, SAFETENSORS, Manifest, read_manifest, verified
from models.preprocess import Pixels
from models.runtimes.batches import buckets_for
from models.runtimes.driver import find_driver
from models.runtimes.engine_cache import EngineCache, default_folder
from schemas.events import Vector
from stream.errors import EncoderBroken, EncoderLost, ParityFailed, PassedOver, RuntimeUnusable, SettingError

log = logging.getLogger("dejaview.models")

RuntimeName: TypeAlias = Literal["auto", "tensorrt", "torch-cuda", "openvino", "torch"]

# The default of `encode.batch_items_max`: offline commands find the engine that serving built.
BATCH_ITEMS = 32


# What is not there is mostly not missed.
_LEVELS = {PassedOver.NOT_INSTALLED: logging.DEBUG, PassedOver.NO_GPU: logging.INFO}


class Encoder(Protocol):
    """Pictures to embeddings. Any thread may call it, one at a time."""

    @property
    def model_id(self) -> str:
        """Which weights and preprocessing; fingerprints of different ids are never compared."""

    @property
    def runtime(self) -> str:
        """What computes: tensorrt, tensorrt-rtx, torch-cuda, openvino or torch."""

    def encode(self, images: Pixels) -> Vector:
        """uint8 [N, 224, 224, 3] of `preprocess.reduce` -> float32 [N, 256], each of L2 norm 1. N may be 0.

        Raises:
            ValueError: another shape or type.
            EncoderBroken: the runtime failed.
            EncoderLost: the runtime failed for good; only a new process computes again.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """What a runtime may be told. `batch_items` is the largest batch in use; `engines` keeps TensorRT's engines."""

    threads: int = 0
    batch_items: int = BATCH_ITEMS
    engines: Path | None = None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A runtime that `auto` would have preferred."""

    runtime: str
    why: PassedOver
    detail: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """An encoder that has reproduced the golden vectors, and the runtimes before it in `auto`'s order."""

    encoder: Encoder
    not_taken: tuple[NotTaken, ...] = ()


def load_encoder(runtime: RuntimeName = "auto", weights: Path | None = None, threads: int = 0) -> Encoder:
    """`choose_encoder` for who need not know what was passed over."""
    return choose_encoder(runtime, weights, Options(threads)).encoder


def choose_encoder(runtime: RuntimeName, weights: Path | None, options: Options) -> Chosen:
    """An encoder that has reproduced the golden vectors.

    Args:
        runtime: `auto` takes the first of tensorrt, torch-cuda, openvino, torch that works on this machine and says
            why the others do not. Any other name is taken or fails.
        weights: a weights folder; the built-in one if None.
        options: what the runtime is told.

    Raises:
        SettingError: no runtime works, the one named does not, or the weights folder is incomplete or damaged.
        ParityFailed: the runtime named, or with `auto` each that opens, computes something else than the reference did.
        EncoderBroken, EncoderLost: the runtime named failed on the golden pictures.
    """
    folder = weights or BUILT_IN
    manifest = read_manifest(folder)
    if runtime != "auto":
        return Chosen(_named(runtime, folder, manifest, options))
    not_taken: list[NotTaken] = []
    for name in _RUNTIMES:
        try:
            return Chosen(_opened(name, folder, manifest, options), tuple(not_taken))
        except RuntimeUnusable as error:
            _pass_over(not_taken, name, error.why, error)
        except ParityFailed as error:
            _pass_over(not_taken, name, PassedOver.PARITY_FAILED, error)
        except (EncoderBroken, EncoderLost) as error:
            _pass_over(not_taken, name, PassedOver.BROKEN, error)
    raise _nothing_works(not_taken, folder)


def _nothing_works(not_taken: Sequence[NotTaken], folder: Path) -> SettingError | ParityFailed:
    reasons = "; ".join(f"{one.runtime}: {one.detail}" for one in not_taken)
    message = f"model.runtime: no runtime works here ({reasons})"
    if any(one.why is PassedOver.PARITY_FAILED for one in not_taken):
        return ParityFailed(f"{message}; if none is right, the golden vectors are another model's: restore {folder}")
    return SettingError(f"{message}; pip install openvino")


def _pass_over(not_taken: list[NotTaken], runtime: str, why: PassedOver, error: Exception) -> None:
    log.log(_LEVELS.get(why, logging.WARNING), "runtime %s is passed over (%s): %s", runtime, why, error)
    not_taken.append(NotTaken(runtime, why, str(error)))


def _named(runtime: str, folder: Path, manifest: Manifest, options: Options) -> Encoder:
    """The runtime that the settings name: nothing else is taken for it."""
    advice = f"{_RUNTIMES[runtime].fix}, or set model.runtime to auto"
    try:
        return _opened(runtime, folder, manifest, options)
    except RuntimeUnusable as error:
        raise SettingError(f"model.runtime: {runtime} is not usable here: {error}; {advice}") from error
    except (EncoderBroken, EncoderLost) as error:
        raise type(error)(f"model.runtime: {runtime} does not work here: {error}; {advice}") from error


def _opened(runtime: str, folder: Path, manifest: Manifest, options: Options) -> Encoder:
    """One runtime, after the parity gate. A GPU has kernels of its own for every batch size: each is examined."""
    seat = _RUNTIMES[runtime]
    absent = [package for package in seat.packages if find_spec(package) is None]
    if absent:
        raise RuntimeUnusable(PassedOver.NOT_INSTALLED, f"{', '.join(absent)} not installed")
    content = verified(folder, manifest, (seat.file, GOLDEN))[seat.file]
    encoder = seat.open(content, manifest.model_id, options)
    golden.check_parity(folder, encoder.runtime, encoder.encode, seat.batches(options))
    return encoder


@dataclass(frozen=True, slots=True)
class _Runtime:
    """A seat in the registry: what must be installed, which weights file it reads, how it is opened."""

    packages: tuple[str, ...]
    file: str
    open: Callable[[bytes, str, Options], Encoder]
    fix: str
    gpu: bool = False

    def batches(self, options: Options) -> tuple[int, ...]:
        """The batch sizes to examine apart."""
        return buckets_for(options.batch_items) if self.gpu else (golden.PICTURES,)


def _open_tensorrt(content: bytes, model_id: str, options: Options) -> Encoder:
    driver = find_driver()
    try:
        from models.runtimes.tensorrt import open_tensorrt  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise RuntimeUnusable(PassedOver.IMPORT_FAILED, f"torch cannot be imported: {error}") from error
    cache = EngineCache(options.engines or default_folder())
    return open_tensorrt(content, model_id, options.batch_items, driver, cache)


def _open_torch_cuda(content: bytes, model_id: str, options: Options) -> Encoder:
    driver = find_driver()
    try:
        from models.runtimes.cuda import open_torch_cuda  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise RuntimeUnusable(PassedOver.IMPORT_FAILED, f"torch cannot be imported: {error}") from error
    return open_torch_cuda(content, model_id, options.batch_items, driver)


def _open_openvino(content: bytes, model_id: str, options: Options) -> Encoder:
    try:
        from models.runtimes.openvino import OpenvinoEncoder  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise RuntimeUnusable(PassedOver.IMPORT_FAILED, f"openvino cannot be imported: {error}") from error
    return OpenvinoEncoder(content, model_id, options.threads)


def _open_torch(content: bytes, model_id: str, options: Options) -> Encoder:
    try:
        from models.runtimes.torch import TorchEncoder  # noqa: PLC0415 - imported only when chosen
    except ImportError as error:
        raise RuntimeUnusable(PassedOver.IMPORT_FAILED, f"torch cannot be imported: {error}") from error
    return TorchEncoder(content, model_id, options.threads)


_TORCH = ("torch", "torchvision", "safetensors")
# In the order `auto` tries them.
_RUNTIMES = {
    "tensorrt": _Runtime(
        (*_TORCH, "torch_tensorrt"),
        SAFETENSORS,
        _open_tensorrt,
        "install torch-tensorrt or torch-tensorrt-rtx of torch's release on a machine with an NVIDIA GPU",
        gpu=True,
    ),
    "torch-cuda": _Runtime(
        _TORCH,
        SAFETENSORS,
        _open_torch_cuda,
        "pip install 'dejaview[torch]' on a machine with an NVIDIA GPU",
        gpu=True,
    ),
    "openvino": _Runtime(("openvino",), ONNX, _open_openvino, "pip install openvino"),
    "torch": _Runtime(_TORCH, SAFETENSORS, _open_torch, "pip install 'dejaview[torch]'"),
}
