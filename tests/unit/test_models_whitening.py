"""Whitening is a change of the projection alone, and does what it says to the spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.network import CopyDetector
from models.whitening import whitened

pytestmark = pytest.mark.torch


def spread(count: int) -> np.ndarray:
    """Outputs off centre, with deviations from 10 to 0.1."""
    random = np.random.default_rng(1)
    return (random.normal(size=(count, 256)) * np.geomspace(10, 0.1, 256) + random.normal(size=256)).astype(np.float32)


@pytest.mark.parametrize(("power", "ratio"), [(0.0, 100.0), (0.5, 10.0), (1.0, 1.0)])
def test_deviations_are_divided_by_their_power(power: float, ratio: float) -> None:
    """The largest over the smallest deviation of what comes out, around zero. Break: forget the centre."""
    torch.manual_seed(1)
    network = CopyDetector()
    outputs = spread(4_000)
    # Inputs of the projection that make these outputs.
    weight, bias = network.projection.weight.detach().numpy(), network.projection.bias.detach().numpy()
    pooled = (outputs - bias) @ np.linalg.pinv(weight).T
    state = whitened(network.state_dict(), outputs, power)
    assert set(state) == set(network.state_dict())
    made = pooled @ state["projection.weight"].numpy().T + state["projection.bias"].numpy()
    deviations = made.std(axis=0)
    assert deviations.max() / deviations.min() == pytest.approx(ratio, rel=0.15)
    assert np.abs(made.mean(axis=0)).max() < 0.05 * deviations.max()
    others = [name for name in state if not name.startswith("projection.")]
    assert all(torch.equal(state[name], network.state_dict()[name]) for name in others)


def test_too_few_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="256 outputs cannot tell the spread of 256 dimensions"):
        whitened(CopyDetector().state_dict(), spread(256))
