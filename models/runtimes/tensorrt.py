"""The GPU default: one TensorRT engine for all batch sizes, built once by Torch-TensorRT and kept on disk.

Torch-TensorRT builds the engine and plain TensorRT runs it: its bytes are all there is to keep, and nothing that could
be unpickled. `torch-tensorrt-rtx` installs the same module over TensorRT for RTX and sits in the same seat.

Nothing is imported at the top but what works without a GPU: `import torch_tensorrt` asks for one.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import models.network
import models.runtimes.half
from models.preprocess import SIDE
from models.runtimes.batches import Profile, profile_for
from models.runtimes.cuda import CudaEncoder, Forward, require_cuda
from models.runtimes.driver import Driver
from models.runtimes.engine_cache import EngineCache, EngineKey
from models.runtimes.half import load_half_network
from schemas.events import EMBEDDING_SIZE
from stream.errors import PassedOver, RuntimeUnusable

log = logging.getLogger("dejaview.models")

PRECISION = "fp16 features; block 1, pooling and projection fp32 without tf32"


def open_tensorrt(
    safetensors: bytes, model_id: str, batch_items: int, driver: Driver, cache: EngineCache
) -> CudaEncoder:
    """An encoder over the engine of the cache, or over a new one, which is kept.

    Raises:
        RuntimeUnusable: Torch-TensorRT cannot be imported here, or builds no engine.
        EncoderBroken, EncoderLost: see `CudaEncoder`.
    """
    require_cuda(driver)
    torch_tensorrt = _imported()
    profile = profile_for(batch_items)
    key = EngineKey(
        model_id=model_id,
        network=network_revision(),
        precision=PRECISION,
        batch=f"{profile.least} {profile.optimum} {profile.most}",
        gpu=torch.cuda.get_device_name(),
        capability="{}.{}".format(*torch.cuda.get_device_capability()),
        driver=driver.version,
        libraries=_versions(torch_tensorrt),
    )
    engine = _engine(torch_tensorrt, key, safetensors, profile, cache)
    name = "tensorrt-rtx" if engine.is_rtx else "tensorrt"
    # TensorRT for RTX captures by itself: it knows when its kernels are ready.
    return CudaEncoder(name, model_id, engine.forward_for, batch_items, captured=not engine.is_rtx)


def network_revision() -> str:
    """Changes when the code that says what an engine computes does."""
    files = (models.network.__file__, models.runtimes.half.__file__, __file__)
    return hashlib.sha256(b"\n".join(Path(file).read_bytes() for file in files)).hexdigest()[:16]


class Engine:
    """A deserialised engine; every batch size takes an execution context of its own from it."""

    def __init__(self, torch_tensorrt: ModuleType, content: bytes) -> None:
        """Deserialise.

        Raises:
            RuntimeError: TensorRT does not take it, or it is of another network.
        """
        self.is_rtx = bool(torch_tensorrt.ENABLED_FEATURES.tensorrt_rtx)
        trt = _tensorrt()
        self._runtime = trt.Runtime(torch_tensorrt.logging.TRT_LOGGER)
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise RuntimeError("TensorRT does not take the engine")
        self._input, self._output = _edges(trt, self._engine)
        # Both for as long as contexts use them: TensorRT holds no Python object alive.
        self._config: Any = None
        self._kernels: Any = None
        if self.is_rtx:
            self._config, self._kernels = _rtx_config(trt, self._engine)

    def forward_for(self, size: int) -> Forward:
        """What computes batches of this size. A context whose graph was captured must not see another shape."""
        context = self._engine.create_execution_context(*([self._config] if self._config else []))
        if context is None or not context.set_input_shape(self._input, (size, SIDE, SIDE, 3)):
            raise RuntimeError(f"TensorRT prepares no batch of {size}")
        vectors = torch.empty((size, EMBEDDING_SIZE), dtype=torch.float32, device="cuda")
        context.set_tensor_address(self._output, vectors.data_ptr())

        def forward(images: Tensor) -> Tensor:
            context.set_tensor_address(self._input, images.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise RuntimeError(f"TensorRT refused a batch of {size}")
            return vectors

        return forward


def _engine(
    torch_tensorrt: ModuleType, key: EngineKey, safetensors: bytes, profile: Profile, cache: EngineCache
) -> Engine:
    kept = cache.read(key)
    if kept is not None:
        try:
            return Engine(torch_tensorrt, kept)
        except RuntimeError as error:
            log.warning("the engine that was kept is built anew: %s", error)
            cache.discard(key)
    log.info("building an engine for %s, batches of %s; this takes minutes once", key.gpu, key.batch)
    try:
        content = build(torch_tensorrt, safetensors, profile, "cuda")
        engine = Engine(torch_tensorrt, content)
    except Exception as error:
        raise RuntimeUnusable(PassedOver.BUILD_FAILED, f"TensorRT builds no engine: {error}") from error
    cache.write(key, content)
    return engine


def build(torch_tensorrt: ModuleType, safetensors: bytes, profile: Profile, device: str) -> bytes:
    """A serialised engine: uint8 [N, 224, 224, 3] -> float32 [N, 256], N within the profile.

    Raises:
        Whatever Torch-TensorRT does.
    """
    program = exported(safetensors, profile, device)
    least, optimum, most = ((n, SIDE, SIDE, 3) for n in (profile.least, profile.optimum, profile.most))
    images = torch_tensorrt.Input(min_shape=least, opt_shape=optimum, max_shape=most, dtype=torch.uint8)
    # Its own default is a file in /tmp, which anybody may have put there.
    with tempfile.TemporaryDirectory(prefix="dejaview-engine-") as folder:
        content: bytes = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program,
            arg_inputs=[images],
            # TensorFloat-32 has float16's mantissa: the block that is kept in float32 would gain nothing.
            disable_tf32=True,
            timing_cache_path=str(Path(folder) / "timing.cache"),
        )
    return content


def exported(safetensors: bytes, profile: Profile, device: str) -> torch.export.ExportedProgram:
    """The network as a graph of one dynamic batch."""
    network = load_half_network(safetensors).to(device)
    # Two: a batch of one would be taken for a constant.
    example = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8, device=device)
    batch = torch.export.Dim("batch", min=profile.least, max=profile.most)
    return torch.export.export(network, (example,), dynamic_shapes={"images": {0: batch}})


def _edges(trt: ModuleType, engine: Any) -> tuple[str, str]:
    """The names of the one input and the one output.

    Raises:
        RuntimeError: there are others, or their shapes or types are.
    """
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    found = [(tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)) for name in (*inputs, *outputs)]
    if found != [((-1, SIDE, SIDE, 3), trt.DataType.UINT8), ((-1, EMBEDDING_SIZE), trt.DataType.FLOAT)]:
        raise RuntimeError(f"the engine has other inputs and outputs: {found}")
    return inputs[0], outputs[0]


def _rtx_config(trt: ModuleType, engine: Any) -> tuple[Any, Any]:
    """How contexts of TensorRT for RTX run: kernels compiled at first use and never exchanged, graphs of their own.

    And the cache of kernels that they share: what one compiled the next one has.
    """
    config = engine.create_runtime_config()
    # Lazily it would exchange kernels while running, behind the parity gate's back.
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    kernels = config.create_runtime_cache()
    config.set_runtime_cache(kernels)
    return config, kernels


def _imported() -> ModuleType:
    # It tells at length how it builds, and of plug-ins that are not needed; errors are raised beside.
    for name in ("torch_tensorrt", "torch_tensorrt [TensorRT Conversion Context]"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        import torch_tensorrt  # noqa: PLC0415 - it asks for a GPU
    except Exception as error:
        # It raises bare Exceptions where a library is missing or of another version.
        raise RuntimeUnusable(PassedOver.IMPORT_FAILED, f"torch_tensorrt cannot be imported: {error}") from error
    found: ModuleType = torch_tensorrt
    return found


def _tensorrt() -> ModuleType:
    """TensorRT, or TensorRT for RTX under the same name, which Torch-TensorRT gives it when it is imported."""
    import tensorrt  # noqa: PLC0415 - see above

    found: ModuleType = tensorrt
    return found


def _versions(torch_tensorrt: ModuleType) -> str:
    kind = "tensorrt-rtx" if torch_tensorrt.ENABLED_FEATURES.tensorrt_rtx else "tensorrt"
    return f"{kind} {_tensorrt().__version__}, torch_tensorrt {torch_tensorrt.__version__}, torch {torch.__version__}"
