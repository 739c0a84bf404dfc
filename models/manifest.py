"""The weights folder: `model.json` names the model and the SHA-256 of every file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models.preprocess import PREPROCESSING
from stream.errors import SettingError

BUILT_IN = Path(__file__).parent / "weights" / "copydetect-small-v4"
MANIFEST = "model.json"
SAFETENSORS = "model.safetensors"
ONNX = "model.onnx"
GOLDEN = "golden.npz"
BACKGROUND = "background.npz"
CALIBRATION = "calibration.json"
# The model id is a function of these and of the preprocessing: what a fingerprint (embedding and bias) depends on.
IDENTITY = (SAFETENSORS, BACKGROUND)
# Written by `models.export` and `models.fit`; a folder without the last two encodes but cannot judge.
ALL_FILES = (SAFETENSORS, ONNX, GOLDEN, BACKGROUND, CALIBRATION)


class Manifest(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    format: int = 1
    name: str
    model_id: str
    preprocessing: str
    files: dict[str, str]
    made_from: str
    command: str


def model_id(name: str, files: dict[str, str], preprocessing: str = PREPROCESSING) -> str:
    """NAME-XXXXXXXXXXXX: lower-case letters, digits and hyphens; hyphens may become underscores.

    Args:
        name: of the model, e.g. copydetect-small-v4.
        files: SHA-256 by file name.
        preprocessing: what `preprocess.reduce` does.
    """
    parts = [preprocessing, *(f"{file}={files.get(file, '')}" for file in IDENTITY)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{name}-{digest[:12]}"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a weights folder, its own id checked.

    Raises:
        SettingError: no or a malformed manifest, or weights made for another preprocessing.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise SettingError(f"model.weights: {folder} is not a weights folder: {error}") from error
    except ValidationError as error:
        raise SettingError(f"model.weights: {folder / MANIFEST} is malformed: {error}") from error
    if manifest.preprocessing != PREPROCESSING:
        raise SettingError(
            f"model.weights: {folder} was made for the preprocessing {manifest.preprocessing!r}, "
            f"this release does {PREPROCESSING!r}; use weights exported by this release"
        )
    expected = model_id(manifest.name, manifest.files)
    if manifest.model_id != expected:
        raise SettingError(f"model.weights: {folder / MANIFEST} says {manifest.model_id}, its files make {expected}")
    return manifest


def verified(folder: Path, manifest: Manifest, names: Iterable[str]) -> dict[str, bytes]:
    """Read these files and check the SHA-256 of each; parse what is returned, not the file again.

    Returns:
        content by name; a file that is replaced after the check does no harm.

    Raises:
        SettingError: a file is not in the manifest, missing or not the one it names.
    """
    contents = {}
    for name in names:
        expected = manifest.files.get(name)
        if expected is None:
            raise SettingError(f"model.weights: {folder / MANIFEST} names no {name}; run models.fit")
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise SettingError(f"model.weights: {folder / name} cannot be read: {error}") from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise SettingError(
                f"model.weights: {folder / name} is damaged or of another model: its SHA-256 is {actual}, "
                f"{MANIFEST} says {expected}; restore the folder"
            )
        contents[name] = content
    return contents


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, name: str, made_from: str, command: str) -> Manifest:
    """Write `model.json` for the files that are in the folder now."""
    files = {file: file_sha256(folder / file) for file in ALL_FILES if (folder / file).exists()}
    manifest = Manifest(
        name=name,
        model_id=model_id(name, files),
        preprocessing=PREPROCESSING,
        files=files,
        made_from=made_from,
        command=command,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def refresh_manifest(folder: Path) -> Manifest:
    """Write `model.json` again after a file was added or replaced."""
    old = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    return write_manifest(folder, old.name, old.made_from, old.command)
