"""Promise R10 where a GPU computes: the same embeddings, alone and in any batch. `make test-gpu` runs what has to."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import ops.bench.gpu
import ops.bench.vectors
from models import golden
from models.background import Background
from models.calibration import Calibration
from models.encoder import Encoder, Options, RuntimeName, choose_encoder, load_encoder
from models.manifest import BUILT_IN, GOLDEN, SAFETENSORS
from models.preprocess import Pixels
from models.runtimes.driver import Driver
from stream.errors import PassedOver, RuntimeUnusable
from tests.support.photos import jpeg, photo

# -- without a GPU


@pytest.mark.torch
def test_half_precision_passes_parity() -> None:
    """The network as GPUs compute it, in float16 on a CPU, with a margin to the gate of 0.999.

    Break, tried: block 1 in float16 (0.9993).
    """
    import torch  # noqa: PLC0415 - an extra

    from models.runtimes.half import load_half_network  # noqa: PLC0415

    network = load_half_network((BUILT_IN / SAFETENSORS).read_bytes())
    with torch.inference_mode():
        vectors = network(torch.from_numpy(golden.pictures())).numpy()
    with np.load(BUILT_IN / GOLDEN) as kept:
        cosines = (vectors * kept["embeddings"]).sum(axis=1)
    assert vectors.dtype == np.float32
    assert cosines.min() >= 0.9998
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


@pytest.mark.torch
def test_half_precision_leaves_the_reference_alone() -> None:
    """The oracle's network is copied, not changed. Break: no `deepcopy`."""
    import torch  # noqa: PLC0415 - an extra

    from models.network import load_network  # noqa: PLC0415
    from models.runtimes.half import HalfCopyDetector  # noqa: PLC0415

    network = load_network((BUILT_IN / SAFETENSORS).read_bytes())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    HalfCopyDetector(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.torch
def test_one_export_takes_every_batch() -> None:
    """What TensorRT is given has one dynamic batch of 1 to 256 and begins with a cast. Break: permute before it."""

    from models.runtimes.batches import profile_for  # noqa: PLC0415
    from models.runtimes.tensorrt import exported  # noqa: PLC0415

    program = exported((BUILT_IN / SAFETENSORS).read_bytes(), profile_for(32), "cpu")
    (limits,) = program.range_constraints.values()
    assert (int(limits.lower), int(limits.upper)) == (1, 256)
    inputs = program.graph_signature.user_inputs
    users = {str(node.target) for node in program.graph.nodes if any(str(arg) in inputs for arg in node.args)}
    # The assertion is exported beside every cast and computes nothing.
    assert users - {"aten._assert_tensor_metadata.default"} == {"aten.to.dtype"}


def test_the_bench_says_what_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a GPU every part is named with its reason, and nothing is measured. Break: let the error through."""

    def no_gpu() -> None:
        raise RuntimeUnusable(PassedOver.NO_GPU, "no NVIDIA driver is installed here")

    monkeypatch.setattr(ops.bench.gpu, "find_driver", no_gpu)
    assert ops.bench.gpu.main(["--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert set(written["not_run"]) == set(ops.bench.gpu.PARTS)
    assert capsys.readouterr().out.count("NOT RUN: ") == len(ops.bench.gpu.PARTS)


@pytest.mark.torch
def test_the_floor_is_the_networks() -> None:
    """MobileNetV3-small takes 56 million multiplications and additions a picture, two FLOPs each; a batch shares the
    weights. Break: count multiplications alone.
    """
    from models.runtimes.half import load_half_network  # noqa: PLC0415 - an extra
    from ops.bench.floor import floor_of  # noqa: PLC0415

    floor = floor_of(load_half_network((BUILT_IN / SAFETENSORS).read_bytes()))
    assert 105e6 < floor.flops < 125e6
    assert floor.edge_bytes == 224 * 224 * 3 + 1024
    assert floor.edge_bytes < floor.layer_bytes < 30e6
    arithmetic_s, traffic_s = floor.batch_s(100, 1.0, 1.0)
    assert arithmetic_s == pytest.approx(100 * floor.flops / 1e12)
    assert traffic_s == pytest.approx((100 * floor.layer_bytes + floor.weight_bytes) / 1e9)


@pytest.mark.torch
def test_flips_are_counted_over_edits_of_photos() -> None:
    """The bench's comparison; what does not work here is named. Break: the same encoder twice."""
    from ops.bench import gpu_parts  # noqa: PLC0415 - an extra

    found = gpu_parts.flips([jpeg(photo(name)) for name in ("astronaut.png", "coffee.png", "rocket.jpg")])
    assert found["queries"] == 3
    assert set(found) == {"queries", *gpu_parts.COMPARED}
    assert found["openvino"]["flips"] == 0
    assert found["openvino"]["lowest_cosine"] >= 0.999
    assert found["openvino"]["largest_difference"] > 0


def test_a_part_that_fails_does_not_stop_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises is named, and only it. Break: catch our own errors alone."""
    monkeypatch.setattr(ops.bench.gpu, "find_driver", lambda: Driver(13000, "made-up"))
    monkeypatch.setattr(ops.bench.gpu, "PARTS", {"encoder": ("page", "missing"), "compiled": ("vectors", "NAMES")})
    monkeypatch.setattr(ops.bench.vectors, "NAMES", list, raising=False)
    ops.bench.gpu.main(["--json", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["compiled"] == []
    assert written["not_run"].keys() == {"encoder"}
    assert "AttributeError" in written["not_run"]["encoder"]


# -- with one


def needs_tensorrt() -> None:
    """The rest of a GPU can be examined without it."""
    if find_spec("torch_tensorrt") is None:
        pytest.skip("torch_tensorrt is not installed")


@pytest.fixture(scope="module", params=["tensorrt", "torch-cuda"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    name: RuntimeName = request.param
    if name == "tensorrt":
        needs_tensorrt()
    options = Options(batch_items=256, engines=tmp_path_factory.mktemp("engines"))
    return choose_encoder(name, None, options).encoder


@pytest.fixture(scope="module")
def pictures() -> Pixels:
    """300 pictures: the golden ones, each brightened a little more every time it comes again."""
    drawn = golden.pictures()
    return np.stack([np.clip(drawn[n % 16].astype(np.int16) + 3 * (n // 16), 0, 255) for n in range(300)]).astype(
        np.uint8
    )


@pytest.mark.gpu
@pytest.mark.parametrize("items", [0, 1, 2, 8, 9, 64, 256, 300])
def test_any_batch_gives_the_same(encoder: Encoder, pictures: Pixels, items: int) -> None:
    """Padded, cut in parts or alone: a picture's embedding is its own. Break: the rows of another bucket."""
    together = encoder.encode(pictures[:items])
    assert together.shape == (items, 256)
    for n in range(0, items, 37):
        assert float(together[n] @ encoder.encode(pictures[n : n + 1])[0]) >= 0.9995


@pytest.mark.gpu
def test_the_gpu_gives_the_cpus_verdicts(encoder: Encoder, pictures: Pixels) -> None:
    """No score moves by more than a hundredth, and no verdict but on the very edge. Break: bf16 for fp16."""
    on_cpu = load_encoder("torch")
    background, calibration = Background.load(), Calibration.load()
    rows = pictures[:16]
    one, other = (background.against(e.encode(rows))(e.encode(pictures)) for e in (on_cpu, encoder))
    assert np.abs(one - other).max() < 0.01
    limits = [calibration.review_threshold, calibration.duplicate_threshold]
    assert (np.digitize(one, limits) != np.digitize(other, limits)).mean() < 0.01


@pytest.mark.gpu
def test_the_second_start_takes_the_kept_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged engine is built anew, a whole one is not. Break: leave `cache.write` out."""
    needs_tensorrt()
    from models.runtimes import tensorrt  # noqa: PLC0415 - an extra

    built = []
    honest = tensorrt.build

    def counted(*arguments: object) -> bytes:
        built.append(arguments)
        return honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tensorrt, "build", counted)
    options = Options(batch_items=8, engines=tmp_path / "engines")
    for expected in (1, 1):
        choose_encoder("tensorrt", None, options)
        assert len(built) == expected
    (file,) = (tmp_path / "engines").iterdir()
    file.write_bytes(file.read_bytes()[:-1000])
    choose_encoder("tensorrt", None, options)
    assert len(built) == 2
