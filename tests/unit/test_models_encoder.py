"""Promise R10: the same embedding on every runtime, alone or in a batch, from weights that are what they claim."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import skimage
from PIL import Image

from models import golden
from models.background import Background
from models.calibration import Calibration
from models.edits import EDITS
from models.encoder import Encoder, load_encoder
from models.manifest import BUILT_IN, GOLDEN, MANIFEST, ONNX, read_manifest, verified
from models.preprocess import DRAFT_SIDE, Pixels, reduce, to_rgb
from models.runtimes.openvino import OpenvinoEncoder
from schemas.events import Vector
from stream.errors import EncoderBroken, ParityFailed, SettingError

DATA = Path(skimage.__file__).parent / "data"
PHOTOS = [DATA / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
RUNTIMES = ["openvino", pytest.param("torch", marks=pytest.mark.torch)]


@pytest.fixture(scope="module")
def openvino() -> Encoder:
    return load_encoder("openvino")


@pytest.fixture(scope="module")
def oracle() -> Encoder:
    # One thread: two helpers of torch on a busy machine wait for each other.
    return load_encoder("torch", threads=1)


@pytest.fixture(params=RUNTIMES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    found: Encoder = request.getfixturevalue("oracle" if request.param == "torch" else request.param)
    return found


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [to_rgb(Image.open(path)) for path in PHOTOS]


@pytest.fixture(scope="module")
def edited(photos: list[Image.Image]) -> Pixels:
    """Every edit of every photo, [edits x photos, 224, 224, 3]."""
    return np.stack([reduce(edit(photo, Random(7))) for edit in EDITS.values() for photo in photos])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in weights, to damage."""
    return Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))


def lowest_cosine(one: Vector, other: Vector) -> float:
    return float((one * other).sum(axis=1).min())


def test_golden_vectors_are_reproduced(encoder: Encoder) -> None:
    """Each runtime makes the reference's embeddings, float32 and of unit length. Break: divide by 127."""
    embeddings = encoder.encode(golden.pictures())
    with np.load(BUILT_IN / GOLDEN) as reference:
        assert lowest_cosine(embeddings, reference["embeddings"]) >= 0.999
    assert embeddings.shape == (golden.PICTURES, 256)
    assert embeddings.dtype == np.float32
    assert np.abs(np.linalg.norm(embeddings, axis=1) - 1).max() < 1e-5


def test_company_does_not_matter(encoder: Encoder, edited: Pixels) -> None:
    """A picture has one embedding, alone, in a batch of any size and at any place in it.

    Break: keep every request's result in row 0 (`vectors[0]` in `OpenvinoEncoder.encode`).
    """
    batch = edited[::9]
    together = encoder.encode(batch)
    alone = np.concatenate([encoder.encode(batch[row : row + 1]) for row in range(len(batch))])
    assert lowest_cosine(together, alone) >= 0.9999
    assert lowest_cosine(together, encoder.encode(batch[::-1])[::-1]) >= 0.9999


def test_workers_that_share_a_machine_share_its_cores() -> None:
    """With `model.threads` none is bound to a core: every worker would take the first ones. Break: pin them."""
    encoder = load_encoder("openvino", threads=1)
    assert isinstance(encoder, OpenvinoEncoder)
    assert encoder._compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.torch
def test_both_weight_files_are_one_model(openvino: Encoder, oracle: Encoder, edited: Pixels) -> None:
    """The ONNX file holds the safetensors file's parameters. Break: export ONNX before loading the weights."""
    assert lowest_cosine(openvino.encode(edited), oracle.encode(edited)) >= 0.99999
    assert openvino.model_id == oracle.model_id


@pytest.mark.torch
def test_runtimes_give_the_same_verdicts(
    openvino: Encoder, oracle: Encoder, photos: list[Image.Image], edited: Pixels
) -> None:
    """No verdict over the edits of four photos depends on the runtime. Break: bf16 in OpenVINO's hint."""
    background, calibration = Background.load(), Calibration.load()

    def scores(encoder: Encoder) -> Vector:
        rows, queries = encoder.encode(np.stack([reduce(photo) for photo in photos])), encoder.encode(edited)
        bias = (background.bias(queries)[:, None] + background.bias(rows)) / 2
        return np.asarray(queries @ rows.T - bias, dtype=np.float32)

    limits = [calibration.review_threshold, calibration.duplicate_threshold]
    one, other = scores(openvino), scores(oracle)
    assert (np.digitize(one, limits) == np.digitize(other, limits)).all()
    assert np.abs(one - other).max() < 1e-4


def test_copies_are_found(openvino: Encoder, photos: list[Image.Image], edited: Pixels) -> None:
    """An edit's nearest photo is its original. Break: shuffle a channel's weights; parity would fail too."""
    rows = openvino.encode(np.stack([reduce(photo) for photo in photos]))
    nearest = (openvino.encode(edited) @ rows.T).argmax(axis=1)
    assert (nearest == np.tile(np.arange(len(photos)), len(EDITS))).mean() > 0.93


def test_drafted_jpeg_is_the_same_picture(openvino: Encoder) -> None:
    """The decoder may shrink a JPEG while decoding to twice the network's side. Break: DRAFT_SIDE = SIDE // 2."""
    buffer = BytesIO()
    Image.open(DATA / "retina.jpg").save(buffer, "JPEG", quality=90)
    full, drafted = Image.open(buffer), Image.open(BytesIO(buffer.getvalue()))
    drafted.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
    assert drafted.width < full.width
    embeddings = openvino.encode(np.stack([reduce(full), reduce(drafted)]))
    assert float(embeddings[0] @ embeddings[1]) > 0.999


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pixels: pixels[..., ::-1], id="blue and red swapped"),
        pytest.param(lambda pixels: pixels[:, ::-1], id="upside down"),
        pytest.param(lambda pixels: pixels // 2, id="half as bright"),
        pytest.param(lambda pixels: np.roll(pixels, 1, axis=2), id="a pixel aside"),
    ],
)
def test_wrong_input_fails_parity(openvino: Encoder, spoil: Callable[[Pixels], Pixels]) -> None:
    """Swapped channels and the like do not start. Break: COSINE_MIN = 0.9."""
    with pytest.raises(ParityFailed, match="does not reproduce"):
        golden.check_parity(BUILT_IN, "spoilt", lambda pixels: openvino.encode(spoil(pixels)))


@pytest.mark.parametrize("value", [np.nan, 0.0, 2.0])
def test_nonsense_fails_parity(openvino: Encoder, value: float) -> None:
    """NaN, zeros and vectors of another length do not start. Break: `worst < COSINE_MIN` without the negation."""
    with pytest.raises(ParityFailed, match="does not reproduce"):
        golden.check_parity(BUILT_IN, "broken", lambda pixels: openvino.encode(pixels) * np.float32(value))


@pytest.mark.parametrize("name", [ONNX, GOLDEN])
def test_damaged_file_is_refused(folder: Path, name: str) -> None:
    """One flipped bit in a weights file is named before the file is opened. Break: skip `verified`."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(SettingError, match=rf"{name} is damaged.*restore the folder"):
        load_encoder("openvino", folder)


def test_missing_file_is_refused(folder: Path) -> None:
    """A folder without its weights says which file is missing. Break: skip `verified`."""
    (folder / ONNX).unlink()
    with pytest.raises(SettingError, match=f"{ONNX} cannot be read"):
        load_encoder("openvino", folder)


def test_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    """Any other folder is not a weights folder. Break: let OSError through."""
    with pytest.raises(SettingError, match="is not a weights folder"):
        load_encoder("openvino", tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("preprocessing", "bgr8", "was made for the preprocessing"),
        ("model_id", "copydetect-small-v1-000000000000", "its files make"),
        ("surplus", 1, "is malformed"),
    ],
)
def test_wrong_manifest_is_refused(folder: Path, field: str, value: object, message: str) -> None:
    """A manifest of other preprocessing or with another's id does not start. Break: skip either check."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(SettingError, match=message):
        load_encoder("openvino", folder)


def test_every_listed_file_is_intact() -> None:
    """The committed weights are the manifest's. Break: touch any of them without `models.fit`."""
    manifest = read_manifest(BUILT_IN)
    verified(BUILT_IN, manifest, manifest.files)
    assert sum(path.stat().st_size for path in BUILT_IN.iterdir()) < 12_000_000


def test_model_id_fits_a_collection_name(openvino: Encoder) -> None:
    """Hyphens become underscores and the id is a legal end of a Milvus collection name."""
    assert re.fullmatch(r"[a-z0-9_]{1,60}", openvino.model_id.replace("-", "_"))


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
    ],
)
def test_other_shapes_are_refused(encoder: Encoder, batch: Pixels) -> None:
    """Only uint8 NHWC of 224 is encoded. Break: drop `checked`."""
    with pytest.raises(ValueError, match="the encoder takes uint8"):
        encoder.encode(batch)


def test_empty_and_read_only_batches(encoder: Encoder) -> None:
    """No picture gives no row, and Pillow's read-only memory is fine. Break: `torch.from_numpy` without a copy."""
    assert encoder.encode(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 256)
    pixels = golden.pictures()[:2]
    pixels.setflags(write=False)
    assert encoder.encode(pixels).shape == (2, 256)


def test_failed_batch_is_retried_with_clean_requests(openvino: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime failure is EncoderBroken, and the next batch is right. Break: keep the old requests."""

    class Failing:
        def get_input_tensor(self) -> SimpleNamespace:
            return SimpleNamespace(data=np.empty((1, 224, 224, 3), np.uint8))

        def start_async(self) -> None:
            raise RuntimeError("out of memory")

    running, *_ = openvino._requests  # type: ignore[attr-defined]
    monkeypatch.setattr(openvino, "_requests", [running, Failing()])
    with pytest.raises(EncoderBroken, match="out of memory"):
        openvino.encode(golden.pictures())
    golden.check_parity(BUILT_IN, "openvino", openvino.encode)


@pytest.mark.torch
def test_torch_failure_is_named(oracle: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's errors are EncoderBroken too. Break: drop the `except` in TorchEncoder.encode."""

    def fail(_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(oracle, "_network", fail)
    with pytest.raises(EncoderBroken, match="out of memory"):
        oracle.encode(golden.pictures())
