"""What is around TensorRT, without TensorRT: an engine that it does not take is built anew, and failures are said."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from models.runtimes.batches import Profile, profile_for
from models.runtimes.engine_cache import EngineCache, EngineKey
from stream.errors import PassedOver, RuntimeUnusable

pytestmark = pytest.mark.torch

GOOD, UNFIT, REFUSED = b"good", b"another network", b"made by another TensorRT"
PROFILE = profile_for(32)


@dataclass
class FakeEngine:
    """An engine's edges as TensorRT 11 and TensorRT for RTX 1.5 tell them; `contexts` holds what each was made with."""

    edges: list[tuple[str, str, tuple[int, ...], str]]
    contexts: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def num_io_tensors(self) -> int:
        return len(self.edges)

    def get_tensor_name(self, number: int) -> str:
        return self.edges[number][0]

    def _edge(self, name: str) -> tuple[str, str, tuple[int, ...], str]:
        return next(edge for edge in self.edges if edge[0] == name)

    def get_tensor_mode(self, name: str) -> str:
        return self._edge(name)[1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._edge(name)[2]

    def get_tensor_dtype(self, name: str) -> str:
        return self._edge(name)[3]

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace(create_runtime_cache=lambda: "cache")
        config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
        return config


EDGES = [("images", "in", (-1, 224, 224, 3), "uint8"), ("output0", "out", (-1, 256), "float")]


def deserialised(content: bytes) -> FakeEngine | None:
    return {GOOD: FakeEngine(EDGES), UNFIT: FakeEngine(EDGES[:1])}.get(content)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT's module, and `built`: what the next builds give, errors included."""
    from models.runtimes import tensorrt  # noqa: PLC0415 - imports torch

    fake: Any = ModuleType("tensorrt")
    fake.Runtime = lambda _logger: SimpleNamespace(deserialize_cuda_engine=deserialised)
    fake.TensorIOMode = SimpleNamespace(INPUT="in")
    fake.DataType = SimpleNamespace(UINT8="uint8", FLOAT="float")
    fake.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    fake.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    fake.built = []

    def build(*_: object) -> bytes:
        found = fake.built.pop(0)
        if isinstance(found, Exception):
            raise found
        content: bytes = found
        return content

    monkeypatch.setattr(tensorrt, "_tensorrt", lambda: fake)
    monkeypatch.setattr(tensorrt, "build", build)
    return fake


def torch_tensorrt(*, rtx: bool = False) -> Any:
    fake: Any = ModuleType("torch_tensorrt")
    fake.ENABLED_FEATURES = SimpleNamespace(tensorrt_rtx=rtx)
    fake.logging = SimpleNamespace(TRT_LOGGER=None)
    return fake


@pytest.fixture
def key() -> EngineKey:
    return EngineKey("model", "network", "fp16", "1 32 256", "GPU", "9.0", "580", "tensorrt 11")


def opened(key: EngineKey, cache: EngineCache, *, rtx: bool = False, profile: Profile = PROFILE) -> Any:
    from models.runtimes.tensorrt import _engine  # noqa: PLC0415 - imports torch

    return _engine(torch_tensorrt(rtx=rtx), key, b"weights", profile, cache)


def test_a_build_is_kept(trt: Any, key: EngineKey, tmp_path: Path) -> None:
    """The second start builds nothing. Break: leave `cache.write` out."""
    trt.built = [GOOD]
    opened(key, EngineCache(tmp_path / "engines"))
    opened(key, EngineCache(tmp_path / "engines"))
    assert trt.built == []


@pytest.mark.parametrize("kept", [REFUSED, UNFIT])
def test_a_kept_engine_that_does_not_fit_is_built_anew(
    trt: Any, key: EngineKey, tmp_path: Path, kept: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, under the right key, and TensorRT does not take it: a warning, and the next start has the new one.

    Break: let Engine's error through.
    """
    cache = EngineCache(tmp_path / "engines")
    cache.write(key, kept)
    trt.built = [GOOD]
    with caplog.at_level(logging.WARNING):
        opened(key, cache)
    assert "built anew" in caplog.text
    assert cache.read(key) == GOOD


@pytest.mark.parametrize("outcome", [RuntimeError("unsupported operator"), AssertionError(), REFUSED, UNFIT])
def test_a_failed_build_is_passed_over(trt: Any, key: EngineKey, tmp_path: Path, outcome: object) -> None:
    """Whatever the builder raises or returns, `auto` can go on; nothing is kept. Break: catch RuntimeError alone."""
    trt.built = [outcome]
    cache = EngineCache(tmp_path / "engines")
    with pytest.raises(RuntimeUnusable, match="TensorRT builds no engine") as raised:
        opened(key, cache)
    assert raised.value.why is PassedOver.BUILD_FAILED
    assert cache.read(key) is None


def test_rtx_never_exchanges_kernels(trt: Any, key: EngineKey, tmp_path: Path) -> None:
    """What the parity gate examined is what serves. Break: leave the strategy at its default, lazy."""
    trt.built = [GOOD]
    config = opened(key, EngineCache(tmp_path / "engines"), rtx=True)._config
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert config.cuda_graph_strategy == "whole"
    assert config.cache == "cache"


def test_an_import_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import torch_tensorrt` raises whatever it likes. Break: catch ImportError alone."""
    from models.runtimes.tensorrt import _imported  # noqa: PLC0415 - imports torch

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "torch_tensorrt":
                raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    with pytest.raises(RuntimeUnusable, match="Found no NVIDIA driver") as raised:
        _imported()
    assert raised.value.why is PassedOver.IMPORT_FAILED


def test_the_networks_code_is_in_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A release that computes otherwise builds its own engine. Break: a constant."""
    import models.runtimes.half  # noqa: PLC0415 - imports torch
    from models.runtimes.tensorrt import network_revision  # noqa: PLC0415

    before = network_revision()
    changed = tmp_path / "half.py"
    changed.write_bytes(Path(str(models.runtimes.half.__file__)).read_bytes() + b"\n")
    monkeypatch.setattr(models.runtimes.half, "__file__", str(changed))
    assert network_revision() != before
