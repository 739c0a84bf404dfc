"""What computes on an NVIDIA GPU: fixed batch sizes, pinned memory, one stream, one CUDA graph a size.

A small network on a large GPU waits for launches, not for arithmetic: a graph launches a whole batch at once. It holds
the addresses that it was captured with, so every size keeps its own buffers for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.preprocess import SIDE, Pixels
from models.runtimes import checked
from models.runtimes.batches import buckets_for, parts_of
from models.runtimes.driver import Driver
from models.runtimes.half import load_half_network
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import EncoderBroken, EncoderLost, PassedOver, RuntimeUnusable

# uint8 [size, 224, 224, 3] -> float32 [size, 256], both on the GPU, enqueued on the current stream.
Forward: TypeAlias = Callable[[Tensor], Tensor]

TORCH_CUDA = "torch-cuda"
# Before a capture: cuDNN tries its algorithms, libraries allocate their workspaces.
WARM_UP_RUNS = 3


class CudaEncoder:
    """Any network that runs on the current GPU. Implements `models.encoder.Encoder`."""

    def __init__(
        self,
        runtime: str,
        model_id: str,
        forward_for: Callable[[int], Forward],
        batch_items: int,
        *,
        captured: bool = True,
    ) -> None:
        """Prepare every batch size.

        Args:
            runtime: what computes, as verdicts tell it.
            model_id: of the weights.
            forward_for: what computes batches of exactly this size.
            batch_items: largest batch in use; larger ones are computed in parts.
            captured: capture CUDA graphs here; not where the runtime does so by itself.

        Raises:
            EncoderBroken: the GPU cannot compute it.
            EncoderLost: the GPU has given this process up.
        """
        self.runtime = runtime
        self.model_id = model_id
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        sizes = buckets_for(batch_items)
        # What brought the weights there ran on the caller's stream.
        self._stream.wait_stream(torch.cuda.current_stream())
        # The largest first: it brings the memory of the others with it.
        with _translated(f"{runtime} cannot prepare batches of {list(sizes)}"), self._computing():
            made = {size: _Bucket(size, forward_for(size), self._stream, captured=captured) for size in sizes[::-1]}
        self._buckets = {size: made[size] for size in sizes}

    def encode(self, images: Pixels) -> Vector:
        """See `models.encoder.Encoder`."""
        batch = checked(images)
        vectors = np.empty((len(batch), EMBEDDING_SIZE), dtype=np.float32)
        with _translated(f"{self.runtime} failed on {len(batch)} pictures"), self._computing():
            for part, size in parts_of(len(batch), tuple(self._buckets)):
                self._buckets[size].encode(batch[part], vectors[part])
        return vectors

    def recompute(self, size: int, times: int) -> None:
        """Compute what the buffers of a size hold, without copies: what the card alone takes, for benchmarks."""
        with _translated(f"{self.runtime} failed on {size} pictures"), self._computing():
            for _ in range(times):
                self._buckets[size].run()
            self._stream.synchronize()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """The current stream and the mode are a thread's own, and any thread may call."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield


class _Bucket:
    """One batch size: its buffers, and what computes from one to the other."""

    def __init__(self, size: int, forward: Forward, stream: torch.cuda.Stream, *, captured: bool) -> None:
        self._stream = stream
        shape = (size, SIDE, SIDE, 3)
        self._host_images = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._host_vectors = torch.zeros((size, EMBEDDING_SIZE), dtype=torch.float32, pin_memory=True)
        self._images = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        # TensorFloat-32 has float16's mantissa: the block that is kept in float32 would gain nothing.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            for _ in range(WARM_UP_RUNS):
                self._vectors = forward(self._images)
            stream.synchronize()
            self.run = self._capture(forward) if captured else self._call(forward)

    def encode(self, batch: Pixels, vectors: Vector) -> None:
        """Compute a batch of at most this size; the rows behind it hold older pictures, and nobody reads them."""
        items = len(batch)
        np.copyto(self._host_images.numpy()[:items], batch)
        self._images[:items].copy_(self._host_images[:items], non_blocking=True)
        self.run()
        self._host_vectors[:items].copy_(self._vectors[:items], non_blocking=True)
        self._stream.synchronize()
        np.copyto(vectors, self._host_vectors.numpy()[:items])

    def _capture(self, forward: Forward) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._vectors = forward(self._images)
        replay: Callable[[], None] = graph.replay
        return replay

    def _call(self, forward: Forward) -> Callable[[], None]:
        def run() -> None:
            self._vectors = forward(self._images)

        return run


def open_torch_cuda(safetensors: bytes, model_id: str, batch_items: int, driver: Driver) -> CudaEncoder:
    """torch's own kernels: float16 features, channels last.

    Raises:
        RuntimeUnusable: torch cannot use this GPU.
        EncoderBroken, EncoderLost: see `CudaEncoder`.
    """
    require_cuda(driver)
    with _translated(f"torch cannot load {model_id}"):
        network = load_half_network(safetensors).cuda()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return CudaEncoder(TORCH_CUDA, model_id, lambda _: network, batch_items)


def require_cuda(driver: Driver) -> None:
    """Refuse a machine whose GPU this torch cannot use.

    Raises:
        RuntimeUnusable: with what to do.
    """
    driver.require(torch.version.cuda)
    if not torch.cuda.is_available():
        raise RuntimeUnusable(PassedOver.NO_GPU, f"torch {torch.__version__} finds no GPU that it can use")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """CUDA's errors to ours. After all of them but a lack of memory, no call of this process succeeds any more."""
    try:
        yield
    except torch.AcceleratorError as error:
        raise EncoderLost(f"{what}: {error}; restart this worker") from error
    except RuntimeError as error:
        raise EncoderBroken(f"{what}: {error}") from error
