"""Nothing is parsed that is not what the manifest says, and nothing anywhere can run what a file holds.

Who can write the weights folder and its `model.json` decides what runs: that is not promised (SECURITY.md).
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models import golden, manifest
from models.background import Background
from models.calibration import Calibration
from models.encoder import load_encoder
from models.manifest import ALL_FILES, BACKGROUND, BUILT_IN, CALIBRATION, GOLDEN, MANIFEST, ONNX, SAFETENSORS
from models.model import load_model
from stream.errors import ParityFailed, SettingError

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for name in ("schemas", "models", "stream", "ops") for path in (ROOT / name).rglob("*.py"))

# What reads each file, and therefore must refuse it when a bit of it is another.
READERS: dict[str, Callable[[Path], object]] = {
    ONNX: lambda folder: load_encoder("openvino", folder),
    GOLDEN: lambda folder: golden.check_parity(folder, "none", lambda pixels: np.zeros((len(pixels), 256), np.float32)),
    BACKGROUND: Background.load,
    CALIBRATION: Calibration.load,
    SAFETENSORS: lambda folder: load_encoder("torch", folder, threads=1),
}
CASES = [pytest.param(name, marks=[pytest.mark.torch] if name == SAFETENSORS else []) for name in READERS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in weights, to damage."""
    return Path(shutil.copytree(BUILT_IN, tmp_path / "weights"))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


def test_every_file_has_a_reader_here() -> None:
    """A file added to the weights folder must be added to this test. Break: add one to ALL_FILES."""
    assert set(READERS) == set(ALL_FILES) == set(json.loads((BUILT_IN / MANIFEST).read_text())["files"])
    assert {path.name for path in BUILT_IN.iterdir()} - set(ALL_FILES) == {MANIFEST, "MODEL_CARD.md"}


@pytest.mark.parametrize("at", [0, 1_000, -1])
@pytest.mark.parametrize("name", CASES)
def test_a_flipped_bit_is_refused_by_name(folder: Path, name: str, at: int) -> None:
    """One bit, at the beginning, inside or at the end, and the file is not used. Break: no `verified` in its reader."""
    flip(folder / name, at)
    with pytest.raises(SettingError, match=rf"{name} is damaged.*restore the folder"):
        READERS[name](folder)


@pytest.mark.parametrize("name", CASES)
def test_what_is_checked_is_what_is_parsed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced after its check does no harm. Break: parse the path instead of the checked bytes."""
    used: list[str] = []
    honest = manifest.verified

    def then_replaced(place: Path, listed: manifest.Manifest, names: tuple[str, ...]) -> dict[str, bytes]:
        contents = honest(place, listed, names)
        for one in names:
            used.append(one)
            (place / one).write_bytes(b"replaced")
        return contents

    for module in ("models.encoder", "models.golden", "models.background", "models.calibration"):
        monkeypatch.setattr(f"{module}.verified", then_replaced)
    if name in (ONNX, SAFETENSORS):
        # It reads the golden vectors again, and they are gone by then.
        monkeypatch.setattr(golden, "check_parity", lambda *_: None)
    try:
        READERS[name](folder)
    except ParityFailed:
        assert name == GOLDEN
    assert name in used


def test_a_swapped_background_is_another_model(folder: Path) -> None:
    """Other vectors with a manifest mended by hand are refused. Break: do not compare the manifest's id."""
    listed = json.loads((folder / MANIFEST).read_text())
    flip(folder / BACKGROUND, -1)
    listed["files"][BACKGROUND] = manifest.file_sha256(folder / BACKGROUND)
    (folder / MANIFEST).write_text(json.dumps(listed))
    with pytest.raises(SettingError, match="its files make"):
        load_model(folder)


# -- no code from data


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call in the program, with its dotted name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path, node, ast.unparse(node.func)


def keyword(call: ast.Call, name: str) -> object:
    """A literal keyword argument; None if it is not given."""
    found = [one.value for one in call.keywords if one.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def runs_data(call: ast.Call, name: str) -> str | None:
    """Why this call could run what a file or a message holds; None when it cannot."""
    last = name.rpartition(".")[2]
    refused = {
        "np.load": keyword(call, "allow_pickle") is not False,
        "numpy.load": keyword(call, "allow_pickle") is not False,
        "torch.load": keyword(call, "weights_only") is not True,
        "yaml.load": True,
        "yaml.unsafe_load": True,
        "yaml.full_load": True,
        "os.system": True,
        "os.popen": True,
        "eval": True,
        "exec": True,
        "compile": True,
    }
    if refused.get(name):
        return name
    if keyword(call, "shell") is True or last in ("getoutput", "getstatusoutput"):
        return "a shell"
    return None


def test_no_data_is_run() -> None:
    """No eval, exec, shell, unsafe YAML, nor a load that may unpickle. Break: leave `allow_pickle=False` out."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {why}"
        for path, call, name in calls()
        if (why := runs_data(call, name))
    ]
    assert found == []


def test_nothing_unpickles() -> None:
    """No module imports pickle or what builds on it. Break: `import pickle` anywhere."""
    unpicklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] in unpicklers]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "np.load(f)", "np.load(f, allow_pickle=True)", "torch.load(f)", "yaml.load(f)", "eval(x)", "exec(x)",
        "subprocess.run(x, shell=True)", "os.system(x)", "subprocess.getoutput(x)",
    ],
)  # fmt: skip
def test_the_walk_sees_what_it_looks_for(source: str) -> None:
    """The two tests above would notice. Break: any of the names out of `runs_data`."""
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert runs_data(call, ast.unparse(call.func)) is not None


def test_an_npz_with_objects_is_refused(folder: Path) -> None:
    """Even with the right SHA-256, an array of objects (a pickle) is not read. Break: `allow_pickle=True`."""
    np.savez(folder / GOLDEN, embeddings=np.array([{}], dtype=object), pictures_sha256=np.array(""))
    manifest.refresh_manifest(folder)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        READERS[GOLDEN](folder)
