"""A training's state on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stream.errors import SettingError

WEIGHTS, AVERAGE, STATE, PROGRESS = (
    "weights.safetensors",
    "average.safetensors",
    "optimiser.safetensors",
    "progress.json",
)


@dataclass(slots=True)
class Progress:
    """How far a stage is: `round` counts passes over the photos, `step` batches."""

    round: int = 0
    step: int = 0
    seconds: float = 0.0


def save(
    folder: Path, network: nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer, at: Progress
) -> None:
    """Each file beside its place first, the progress last: what is found together belongs together."""
    folder.mkdir(parents=True, exist_ok=True)
    moments = {
        f"{place}.{name}": value.contiguous()
        for place, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    for name, tensors in ((WEIGHTS, network.state_dict()), (AVERAGE, average), (STATE, moments)):
        beside = folder / f"{name}.new"
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, beside)
        beside.replace(folder / name)
    (folder / PROGRESS).write_text(json.dumps(asdict(at)) + "\n")


def load(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Progress]:
    """Put a state back; the moving average and the progress.

    Raises:
        SettingError: the folder holds no state, or one of another network.
    """
    try:
        progress = Progress(**json.loads((folder / PROGRESS).read_text()))
        network.load_state_dict(load_file(folder / WEIGHTS))
        average, moments = load_file(folder / AVERAGE), load_file(folder / STATE)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise SettingError(f"--out: {folder} holds no training that can be resumed: {error}") from error
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return average, progress
