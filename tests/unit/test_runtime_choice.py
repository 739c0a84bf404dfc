"""Promise R10, before the first picture: `auto` takes the first runtime that works and says why the others do not.

A runtime that the settings name is taken or fails; nothing falls back from it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.exposition import generate_latest

import models.encoder
import models.runtimes.driver
from models import golden
from models.encoder import Encoder, NotTaken, Options, choose_encoder, load_encoder
from models.manifest import BUILT_IN, GOLDEN
from models.preprocess import Pixels
from models.runtimes.driver import Driver, find_driver
from schemas.events import Vector
from stream.config import Settings
from stream.errors import EncoderBroken, EncoderLost, ParityFailed, PassedOver, RuntimeUnusable, SettingError
from stream.health import Health
from stream.metrics import Metrics
from stream.runtime import open_encoder

ORDER = ["tensorrt", "torch-cuda", "openvino", "torch"]


class Reference:
    """Answers with the golden vectors, times a factor; remembers the sizes of its batches."""

    model_id = "made-up"

    def __init__(self, runtime: str, factor: float = 1.0) -> None:
        self.runtime = runtime
        self.batches: list[int] = []
        with np.load(BUILT_IN / GOLDEN) as kept:
            self._answers = kept["embeddings"] * np.float32(factor)

    def encode(self, images: Pixels) -> Vector:
        self.batches.append(len(images))
        answers: Vector = self._answers[np.arange(len(images)) % golden.PICTURES]
        return answers


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Reference]]:
    """`seats(tensorrt=error, ...)`: every runtime is installed and right, but those that are given an error."""
    opened: dict[str, Reference] = {}

    def furnish(**errors: Exception | Encoder) -> dict[str, Reference]:
        def opener(name: str) -> Callable[[bytes, str, Options], Encoder]:
            def open_it(_content: bytes, _model_id: str, _options: Options) -> Encoder:
                found = errors.get(name.replace("-", "_"))
                if isinstance(found, Exception):
                    raise found
                return found or opened.setdefault(name, Reference(name))

            return open_it

        real = models.encoder._RUNTIMES
        assert list(real) == ORDER
        monkeypatch.setattr(
            models.encoder, "_RUNTIMES", {name: replace(seat, open=opener(name)) for name, seat in real.items()}
        )
        monkeypatch.setattr(models.encoder, "find_spec", lambda name: name)
        return opened

    return furnish


def passed(not_taken: tuple[NotTaken, ...]) -> dict[str, PassedOver]:
    return {one.runtime: one.why for one in not_taken}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeUnusable(PassedOver.NO_GPU, "no GPU"), PassedOver.NO_GPU),
        (RuntimeUnusable(PassedOver.DRIVER_TOO_OLD, "old"), PassedOver.DRIVER_TOO_OLD),
        (RuntimeUnusable(PassedOver.BUILD_FAILED, "no engine"), PassedOver.BUILD_FAILED),
        (EncoderBroken("out of memory"), PassedOver.BROKEN),
        (EncoderLost("illegal address"), PassedOver.BROKEN),
        (ParityFailed("other vectors"), PassedOver.PARITY_FAILED),
    ],
)
def test_auto_goes_on_to_the_next(
    seats: Callable[..., dict[str, Reference]], error: Exception, why: PassedOver, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever keeps a runtime from working, the next in order is taken and a log line says why.

    Break: leave any of the three `except` out of `choose_encoder`.
    """
    seats(tensorrt=error, torch_cuda=error)
    with caplog.at_level(logging.INFO):
        chosen = choose_encoder("auto", None, Options())
    assert chosen.encoder.runtime == "openvino"
    assert passed(chosen.not_taken) == {"tensorrt": why, "torch-cuda": why}
    assert f"runtime tensorrt is passed over ({why}): {error}" in caplog.text


def test_auto_takes_the_first_that_works(seats: Callable[..., dict[str, Reference]]) -> None:
    """In the order tensorrt, torch-cuda, openvino, torch; what comes later is not opened. Break: another order."""
    opened = seats()
    assert choose_encoder("auto", None, Options()).encoder.runtime == "tensorrt"
    assert list(opened) == ["tensorrt"]


def test_the_parity_gate_is_every_candidates(seats: Callable[..., dict[str, Reference]]) -> None:
    """A runtime that computes other vectors is passed over, at any of its batch sizes.

    Breaks: `check_parity` outside of the loop; `seat.batches` not passed on.
    """
    seats(tensorrt=Reference("tensorrt", -1.0))
    chosen = choose_encoder("auto", None, Options())
    assert chosen.encoder.runtime == "torch-cuda"
    assert passed(chosen.not_taken) == {"tensorrt": PassedOver.PARITY_FAILED}
    assert isinstance(chosen.encoder, Reference)
    assert chosen.encoder.batches == [1, 8, 32]


def test_a_wrong_batch_size_fails_parity() -> None:
    """Right alone and wrong in the largest batch does not start. Break: compare the first 16 rows alone."""
    right = Reference("made-up")

    def wrong_at_the_end(images: Pixels) -> Vector:
        vectors = right.encode(images).copy()
        vectors[200:] = vectors[0]
        return vectors

    golden.check_parity(BUILT_IN, "made-up", wrong_at_the_end, (1, 16, 128))
    with pytest.raises(ParityFailed, match="in a batch of 256"):
        golden.check_parity(BUILT_IN, "made-up", wrong_at_the_end, (1, 16, 128, 256))


def test_wrong_golden_vectors_fail_every_runtime(seats: Callable[..., dict[str, Reference]]) -> None:
    """Nothing reproduces them: the message says so of each, and which folder to restore. Break: always SettingError."""
    wrong = Reference("wrong", -1.0)
    seats(tensorrt=RuntimeUnusable(PassedOver.NO_GPU, "no GPU"), torch_cuda=wrong, openvino=wrong, torch=wrong)
    with pytest.raises(ParityFailed, match=r"model\.runtime.*no GPU.*does not reproduce .*: lowest cosine -1.*restore"):
        choose_encoder("auto", None, Options())


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize(
    "error", [RuntimeUnusable(PassedOver.NO_GPU, "no GPU"), EncoderBroken("broken"), ParityFailed("other vectors")]
)
def test_a_named_runtime_never_falls_back(
    seats: Callable[..., dict[str, Reference]], name: models.encoder.RuntimeName, error: Exception
) -> None:
    """The message names the setting and what to do. Break: fall back silently."""
    opened = seats(**{name.replace("-", "_"): error})
    expected = SettingError if isinstance(error, RuntimeUnusable) else type(error)
    with pytest.raises(expected) as raised:
        load_encoder(name)
    assert opened == {}
    if not isinstance(error, ParityFailed):
        assert f"model.runtime: {name}" in str(raised.value)
        assert "set model.runtime to auto" in str(raised.value)


def test_a_named_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which package is missing. Break: call the seat's `open` without looking."""
    monkeypatch.setattr(models.encoder, "find_spec", lambda name: None if name == "torch_tensorrt" else name)
    with pytest.raises(SettingError, match=r"model\.runtime: tensorrt .*torch_tensorrt not installed; install"):
        load_encoder("tensorrt")


def test_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a runtime the message names the setting, every runtime and the fix. Break: return None."""
    monkeypatch.setattr(models.encoder, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match=r"model\.runtime.*tensorrt.*torch-cuda.*openvino.*torch.*pip install"):
        load_encoder()


def test_damaged_weights_are_nobodys_fault(seats: Callable[..., dict[str, Reference]], tmp_path: Path) -> None:
    """A weights folder without its files does not lead to another runtime. Break: catch SettingError in the loop."""
    seats(tensorrt=RuntimeUnusable(PassedOver.NO_GPU, "no GPU"), torch_cuda=EncoderBroken("broken"))
    for name in ("model.json", GOLDEN):
        (tmp_path / name).write_bytes((BUILT_IN / name).read_bytes())
    with pytest.raises(SettingError, match=r"model\.safetensors cannot be read"):
        choose_encoder("auto", tmp_path, Options())


def test_metrics_say_what_was_passed_over(seats: Callable[..., dict[str, Reference]]) -> None:
    """The stage's encoder takes the stage's batches, and /metrics names what it is not, in words from fixed sets.

    Breaks: the error's text as a label; leave `batch_items_max` out.
    """
    lost = RuntimeUnusable(PassedOver.NO_GPU, "no GPU")
    seats(tensorrt=lost)
    metrics, health = Metrics(), Health(60)
    settings = Settings.model_validate({"encode": {"batch_items_max": 128}})
    chosen = open_encoder(settings, metrics, health)
    shown = generate_latest(metrics.registry).decode()
    assert 'dejaview_runtime_passed_over{runtime="tensorrt",why="no_gpu"} 1.0' in shown
    assert shown.count("dejaview_runtime_passed_over{") == 1
    assert isinstance(chosen.encoder, Reference)
    assert chosen.encoder.batches == [1, 8, 32, 64, 128]
    assert health.stalled() == []


# -- the driver


class Library:
    """libcuda as far as it is asked: what `cuInit` answers, how many GPUs, which CUDA."""

    def __init__(self, code: int = 0, count: int = 1, cuda: int = 13000) -> None:
        self._code, self._count, self._cuda = code, count, cuda

    def cuInit(self, _flags: int) -> int:  # noqa: N802 - CUDA's name
        return self._code

    def cuDeviceGetCount(self, place: object) -> int:  # noqa: N802 - CUDA's name
        return _put(place, self._count)

    def cuDriverGetVersion(self, place: object) -> int:  # noqa: N802 - CUDA's name
        return _put(place, self._cuda)


def _put(place: object, value: int) -> int:
    ctypes.cast(place, ctypes.POINTER(ctypes.c_int))[0] = value  # type: ignore[arg-type]
    return 0


def absent(name: str) -> ctypes.CDLL:
    raise OSError(name)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (absent, "no NVIDIA driver is installed"),
        (lambda _: Library(code=100), "shows no GPU .cuInit answered 100"),
        (lambda _: Library(count=0), "shows no GPU"),
    ],
)
def test_no_gpu_is_said(load: Callable[[str], ctypes.CDLL], message: str) -> None:
    """No driver, a driver without a GPU, a hidden GPU: each is `no_gpu`. Break: skip any of the calls' codes."""
    with pytest.raises(RuntimeUnusable, match=message) as raised:
        find_driver(load)
    assert raised.value.why is PassedOver.NO_GPU


@pytest.mark.parametrize(
    ("cuda", "built_for", "why"),
    [
        (13000, "13.0", None),
        (13000, "13.2", None),
        (14000, "13.0", None),
        (12080, "13.0", PassedOver.DRIVER_TOO_OLD),
        (13000, None, PassedOver.BUILT_WITHOUT_CUDA),
    ],
)
def test_the_driver_must_serve_torchs_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: int, built_for: str | None, why: PassedOver | None
) -> None:
    """A driver serves its own major version of CUDA and older ones. Break: compare the minor version too."""
    monkeypatch.setattr(models.runtimes.driver, "VERSION_FILE", tmp_path / "absent")
    driver = find_driver(lambda _: Library(cuda=cuda))  # type: ignore[arg-type,return-value]
    assert driver == Driver(cuda, f"of CUDA {cuda // 1000}.{cuda % 1000 // 10}")
    if why is None:
        driver.require(built_for)
        return
    with pytest.raises(RuntimeUnusable) as raised:
        driver.require(built_for)
    assert raised.value.why is why
