"""The network in torch: MobileNetV3 features, GeM pooling, a projection, L2 norm.

The features are torchvision's (Howard et al., "Searching for MobileNetV3", 2019), the pooling is
Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small
from torchvision.ops import SqueezeExcitation

from schemas.events import EMBEDDING_SIZE

Backbone: TypeAlias = Literal["small", "large"]

# What torchvision builds, and how many channels its last features have.
_BACKBONES: dict[Backbone, tuple[Callable[..., Any], int]] = {
    "small": (mobilenet_v3_small, 576),
    "large": (mobilenet_v3_large, 960),
}
PROJECTION = "projection.weight"


class GeneralisedMean(nn.Module):
    """[N, C, H, W] -> [N, C]: the p-th root of the mean of p-th powers over height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        # x ** p written out: OpenVINO calls the C library once an element for a power that is no whole number.
        powers = (self.p * features.clamp(min=1e-6).log()).exp()
        return powers.mean(dim=(-2, -1)).pow(self.p.reciprocal())


class Average(nn.Module):
    """[N, C, H, W] -> [N, C, 1, 1]. Equal to torch's adaptive pooling, and one node when exported instead of five."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(-2, -1), keepdim=True)


class CopyDetector(nn.Module):
    """uint8 [N, 224, 224, 3] -> float32 [N, 256] of L2 norm 1; parameter names as in the weights file."""

    def __init__(self, backbone: Backbone = "small") -> None:
        super().__init__()
        build, channels = _BACKBONES[backbone]
        self.features = build(weights=None).features
        for module in self.features.modules():
            if isinstance(module, SqueezeExcitation):
                module.avgpool = Average()
        self.gem = GeneralisedMean()
        self.projection = nn.Linear(channels, EMBEDDING_SIZE)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.projected(images), dim=-1)

    def projected(self, images: Tensor) -> Tensor:
        """The embedding before it is brought to unit length."""
        return self.projected_from(self.features(scaled(images)))

    def projected_from(self, features: Tensor) -> Tensor:
        """The same, of the last features."""
        projected: Tensor = self.projection(self.gem(features))
        return projected


def scaled(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] from -1 to 1.

    Scaled before the axes are permuted: OpenVINO's first convolution takes pictures as they lie, and moves nothing.
    """
    return (images.to(torch.float32) / 127.5 - 1.0).permute(0, 3, 1, 2)


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file or a state_dict saved by torch; nothing but tensors is unpickled."""
    if file.suffix == ".safetensors":
        return load_file(file)
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def backbone_of(state: Mapping[str, Tensor]) -> Backbone:
    """Which of the two a whole network's tensors are of; small if none fits, so that loading says what does not."""
    channels = state[PROJECTION].shape[-1] if PROJECTION in state else 0
    return next((name for name, (_, theirs) in _BACKBONES.items() if theirs == channels), "small")


def network_with(state: Mapping[str, Tensor]) -> CopyDetector:
    """The network with these parameters, ready for inference.

    Raises:
        RuntimeError: names or shapes do not fit.
    """
    network = CopyDetector(backbone_of(state))
    network.load_state_dict(dict(state), strict=True)
    return network.eval().requires_grad_(False)


def load_network(safetensors: bytes) -> CopyDetector:
    """The network with the parameters of a safetensors file's content, ready for inference.

    Raises:
        RuntimeError: names or shapes do not fit.
    """
    return network_with(load(safetensors))
