"""What is around the kernels, with the CPU's memory in the GPU's place: padding, parts, old rows, errors.

Streams, pinned memory and graphs are the GPU's own: `tests/unit/test_gpu_runtimes.py`.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.preprocess import Pixels
from stream.errors import EncoderBroken, EncoderLost

pytestmark = pytest.mark.torch


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`models.runtimes.cuda` over a torch whose GPU is this machine's memory."""
    import torch  # noqa: PLC0415 - an extra

    from models.runtimes import cuda as module  # noqa: PLC0415

    stream = SimpleNamespace(synchronize=lambda: None, wait_stream=lambda _: None)
    pretended = SimpleNamespace(
        **{
            name: getattr(torch, name)
            for name in ("inference_mode", "AcceleratorError", "uint8", "float32", "backends")
        },
        zeros=lambda shape, dtype, **_where: torch.zeros(shape, dtype=dtype),
        cuda=SimpleNamespace(Stream=lambda: stream, stream=lambda _: nullcontext(), current_stream=lambda: stream),
    )
    monkeypatch.setattr(module, "torch", pretended)
    return module


class Forward:
    """Mean brightness of every picture in the first number of its row; remembers the sizes that it was asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, size: int) -> Any:
        def forward(images: Any) -> Any:
            import torch  # noqa: PLC0415 - an extra

            self.sizes.append(len(images))
            assert len(images) == size
            vectors = torch.zeros((size, 256))
            vectors[:, 0] = images.to(torch.float32).mean(dim=(1, 2, 3))
            return vectors

        return forward


def plain(values: list[int]) -> Pixels:
    """One picture of each brightness."""
    return np.stack([np.full((224, 224, 3), value, np.uint8) for value in values])


@pytest.mark.parametrize("items", [0, 1, 5, 8, 9, 32, 33, 70])
def test_every_picture_gets_its_own_row(cuda: Any, items: int) -> None:
    """In order, whatever the batch is cut into, after other batches too. Break: `vectors` for `vectors[part]`."""
    encoder = cuda.CudaEncoder("made-up", "model", Forward(), 32, captured=False)
    encoder.encode(plain([255] * 40))
    values = [(7 * n) % 250 for n in range(items)]
    rows = encoder.encode(plain(values) if values else np.empty((0, 224, 224, 3), np.uint8))
    assert rows.shape == (items, 256)
    assert rows.dtype == np.float32
    assert rows[:, 0].tolist() == pytest.approx(values, abs=1e-3)


def test_only_fixed_sizes_are_computed(cuda: Any) -> None:
    """One shape for each graph, none above the batch in use. Break: `forward(self._images[:items])`."""
    forward = Forward()
    encoder = cuda.CudaEncoder("made-up", "model", forward, 20, captured=False)
    assert set(forward.sizes) == {1, 8, 32}
    forward.sizes.clear()
    encoder.encode(plain([1] * 42))
    assert forward.sizes == [32, 32]


def test_an_answer_is_the_callers_own(cuda: Any) -> None:
    """The next batch does not change the last one's embeddings. Break: return the host buffer itself."""
    encoder = cuda.CudaEncoder("made-up", "model", Forward(), 8, captured=False)
    first = encoder.encode(plain([3]))
    encoder.encode(plain([200]))
    assert first[0, 0] == pytest.approx(3)


def test_errors_are_ours(cuda: Any) -> None:
    """A lack of memory is tried again, a lost GPU ends the worker. Break: translate the base class first."""
    import torch  # noqa: PLC0415 - an extra

    def failing(error: Exception) -> Any:
        def forward(_: Any) -> Any:
            raise error

        return lambda _size: forward

    with pytest.raises(EncoderBroken, match=r"cannot prepare batches of \[1, 8\]: out of memory"):
        cuda.CudaEncoder("made-up", "model", failing(torch.OutOfMemoryError("out of memory")), 8, captured=False)
    with pytest.raises(EncoderLost, match="illegal address; restart this worker"):
        cuda.CudaEncoder("made-up", "model", failing(torch.AcceleratorError("illegal address")), 8, captured=False)


def test_other_shapes_are_refused(cuda: Any) -> None:
    """Only uint8 NHWC of 224 is encoded. Break: drop `checked`."""
    encoder = cuda.CudaEncoder("made-up", "model", Forward(), 1, captured=False)
    with pytest.raises(ValueError, match="the encoder takes uint8"):
        encoder.encode(np.zeros((1, 3, 224, 224), np.uint8))
