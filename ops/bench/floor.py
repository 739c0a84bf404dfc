"""What an encoder batch costs at the least: the network's multiplications and its bytes, beside the card's figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.preprocess import SIDE
from models.runtimes.half import HalfCopyDetector
from schemas.events import EMBEDDING_SIZE

HALF_BYTES = 2


@dataclass(frozen=True, slots=True)
class Floor:
    """Of one picture: FLOPs, and bytes that convolutions read and write when nothing between them is fused.

    `weight_bytes` are read once a batch. `edge_bytes` are the picture and its embedding: what a kernel that fused
    everything would still move.
    """

    flops: float
    layer_bytes: float
    edge_bytes: float
    weight_bytes: float

    def batch_s(self, items: int, tflops: float, gbytes_per_s: float) -> tuple[float, float]:
        """Seconds a batch takes at the least, by arithmetic and by layer traffic.

        Args:
            tflops: the card's dense float16 figure.
            gbytes_per_s: the card's memory bandwidth.
        """
        arithmetic_s = items * self.flops / (tflops * 1e12)
        traffic_s = (items * self.layer_bytes + self.weight_bytes) / (gbytes_per_s * 1e9)
        return arithmetic_s, traffic_s


def floor_of(network: HalfCopyDetector) -> Floor:
    """Counted over one picture on the CPU."""
    moved = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += HALF_BYTES * (inputs[0].numel() + output.numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    weight_bytes = sum(p.numel() * p.element_size() for p in network.parameters())
    return Floor(counter.get_total_flops(), moved, SIDE * SIDE * 3 + EMBEDDING_SIZE * 4, weight_bytes)
