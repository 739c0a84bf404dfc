"""The network as GPUs compute it: features in float16, but for one block, and everything behind them in float32.

Behind the features float16 does not do: the pooling's third powers overflow it at 41.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.network import CopyDetector, load_network

# Its depthwise weights reach 42, and its rounding costs most: with it in float16 the lowest golden cosine is .9993 (the
# gate is .999), with it in float32 .9999.
FLOAT32_BLOCKS = (1,)


class HalfCopyDetector(nn.Module):
    """uint8 [N, 224, 224, 3] -> float32 [N, 256] of L2 norm 1, as `network.CopyDetector` to a cosine of 0.999."""

    def __init__(self, network: CopyDetector) -> None:
        """A copy: the network given is left as it is.

        Args:
            network: in float32, ready for inference.
        """
        super().__init__()
        copied = deepcopy(network)
        _fold_norms(copied.features)
        self.features = copied.features
        for number, block in enumerate(self.features):
            block.to(_kept_in(number))
        self.gem = copied.gem
        self.projection = copied.projection

    def forward(self, images: Tensor) -> Tensor:
        # The cast comes first: TensorRT takes uint8 at the network's edge and nowhere behind it.
        features = images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        for number, block in enumerate(self.features):
            features = block(features.to(_kept_in(number)))
        return nn.functional.normalize(self.projection(self.gem(features.to(torch.float32))), dim=-1)


def _kept_in(block: int) -> torch.dtype:
    return torch.float32 if block in FLOAT32_BLOCKS else torch.float16


def load_half_network(safetensors: bytes) -> HalfCopyDetector:
    """The network with the parameters of a safetensors file's content, on the CPU, ready for inference.

    Raises:
        RuntimeError: names or shapes do not fit.
    """
    return HalfCopyDetector(load_network(safetensors)).eval().requires_grad_(False)


def _fold_norms(features: nn.Module) -> None:
    """Multiply every batch norm into the convolution before it, in float32: running variances do not fit float16."""
    for block in features.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for number in range(len(block) - 1):
            convolution, norm = block[number], block[number + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[number], block[number + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
