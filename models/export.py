"""Make a weights folder from a checkpoint.

    python -m models.export --from CHECKPOINT --to models/weights/NAME

Writes model.safetensors, model.onnx (the same parameters, batch norms folded), golden.npz and
model.json. `models.fit` adds background.npz and calibration.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save

from models import golden
from models.manifest import BACKGROUND, CALIBRATION, ONNX, SAFETENSORS, Manifest, file_sha256, write_manifest
from models.network import CopyDetector, load_network, read_state
from models.photos import held_out, read_photos
from models.preprocess import SIDE, reduce
from models.runtimes.torch import TorchEncoder
from models.whitening import whitened
from schemas.events import Vector

OPSET = 18


def export(checkpoint: Path, folder: Path, whiten_on: Sequence[Path] = ()) -> Manifest:
    """Write the folder; what was fitted to other weights is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(checkpoint)
    # Only training reads the batch counters; without them the file holds parameters alone.
    kept = {name: value.contiguous() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if whiten_on:
        kept = whitened(kept, projected_of(load_network(save(kept)), whiten_on))
    weights = save(kept)
    (folder / SAFETENSORS).write_bytes(weights)
    network = load_network(weights)
    export_onnx(network, folder / ONNX)
    reference = TorchEncoder(weights, folder.name, threads=0)
    golden.write_golden(folder, reference.encode)
    for fitted in (BACKGROUND, CALIBRATION):
        (folder / fitted).unlink(missing_ok=True)
    made_from = f"{checkpoint.name}, SHA-256 {file_sha256(checkpoint)}"
    command = "python -m models.export --from CHECKPOINT --to FOLDER" + (" --whiten PHOTOS" if whiten_on else "")
    return write_manifest(folder, folder.name, made_from, command)


def projected_of(network: CopyDetector, paths: Sequence[Path]) -> Vector:
    """The projection's outputs for training photos, float32 [N, 256]: none of the project's held-out lists."""
    kept_out = held_out()
    photos = {photo.sha256: photo for photo in read_photos(paths) if photo.sha256 not in kept_out}
    inputs = (torch.tensor(reduce(photo.open())[None]) for photo in photos.values())
    with torch.inference_mode():
        return np.concatenate([network.projected(image).numpy() for image in inputs])


def export_onnx(network: CopyDetector, path: Path) -> None:
    """uint8 images [batch, 224, 224, 3] -> float32 embeddings [batch, 256], in one self-contained file."""
    example = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["images"],
        output_names=["embeddings"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    onnx.save(_without_traces(program.model_proto), path)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's stack traces and names: a tenth of the file, and paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
    return model


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.export", description="make a weights folder")
    parser.add_argument(
        "--from",
        dest="checkpoint",
        type=Path,
        required=True,
        help="a training's model.safetensors, or a state_dict saved by torch",
    )
    parser.add_argument("--to", dest="folder", type=Path, required=True, help="folder; its name is the model's")
    parser.add_argument("--whiten", type=Path, nargs="*", default=[], metavar="PHOTOS", help="see models/whitening.py")
    arguments = parser.parse_args()
    manifest = export(arguments.checkpoint, arguments.folder, arguments.whiten)
    print(manifest.model_dump_json(indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
