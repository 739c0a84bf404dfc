"""The training loop: one page, resumable, in stages of a bounded time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.network import CopyDetector, network_with
from models.training import checkpoint
from models.training.checkpoint import Progress
from models.training.loss import Queue, loss
from models.training.views import HardBatches, Pictures, Views
from schemas.events import Vector

CURVE = "curve.jsonl"
CLIP = 5.0
AVERAGED = 0.995
SAVED_EVERY_S = 300.0
WARM_UP_STEPS = 100
# Neighbours change slowly, and finding them costs a tenth of a round.
HARD_EVERY_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a stage does. Resolutions are (share of the stage's time, side in pixels), one after the other."""

    minutes: float = 90.0
    batch: int = 160
    queue: int = 1280
    backbone_rate: float = 4e-4
    head_rate: float = 1e-3
    weight_decay: float = 1e-2
    resolutions: tuple[tuple[float, int], ...] = ((0.7, 144), (1.0, 192))
    workers: int = 2
    seed: int = 0
    hard_negatives: bool = True

    def side(self, share: float) -> int:
        """Pixels at this share of the stage."""
        return next((side for until, side in self.resolutions if share < until), self.resolutions[-1][1])

    def rate(self, share: float, step: int) -> float:
        """Cosine from 1 to 0.01 over the stage, after a warm-up."""
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, share))) / 2)


Judge = Callable[[CopyDetector], dict[str, float]]
"""Held-out figures of a network."""


def train(
    network: CopyDetector,
    pictures: Pictures,
    recipe: Recipe,
    out: Path,
    judge: Judge,
    encode: Callable[[CopyDetector], Vector],
    say: Callable[[str], None],
    device: str = "cpu",
) -> dict[str, Tensor]:
    """One stage: until its minutes are over. What was begun in `out` goes on. Returns the averaged weights."""
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        [
            {"params": network.features.parameters(), "lr": recipe.backbone_rate},
            {"params": [*network.gem.parameters(), *network.projection.parameters()], "lr": recipe.head_rate},
        ],
        weight_decay=recipe.weight_decay,
    )
    base_rates = [group["lr"] for group in optimiser.param_groups]
    at = Progress()
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    if (out / checkpoint.PROGRESS).exists():
        average, at = checkpoint.load(out, network, optimiser)
        average = {name: value.to(device) for name, value in average.items()}
    queue, saved_s, stage_s = Queue(recipe.queue), time.monotonic(), recipe.minutes * 60
    hard: Vector | None = None
    while at.seconds < stage_s:
        share = at.seconds / stage_s
        side = recipe.side(share)
        begun_s, sum_of_losses, steps = time.monotonic(), 0.0, 0
        if recipe.hard_negatives and at.round % HARD_EVERY_ROUNDS == 0:
            hard = encode(_with(average))
        for owners, views in _batches(pictures, recipe, side, at.round, hard):
            before_s = time.monotonic()
            rate = recipe.rate((at.seconds + before_s - begun_s) / stage_s, at.step)
            for group, base in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = base * rate
            sum_of_losses += _step(network, optimiser, views.to(device), owners.to(device), queue)
            _follow(average, network)
            at.step, steps = at.step + 1, steps + 1
            if at.seconds + time.monotonic() - begun_s > stage_s:
                break
        at.seconds += time.monotonic() - begun_s
        at.round += 1
        figures = {"loss": sum_of_losses / max(1, steps), **judge(_with(average))}
        line = {
            **asdict(at),
            "side": side,
            "seconds": round(at.seconds),
            **{k: round(v, 4) for k, v in figures.items()},
        }
        with (out / CURVE).open("a") as file:
            file.write(json.dumps(line) + "\n")
        say(json.dumps(line))
        if time.monotonic() - saved_s > SAVED_EVERY_S or at.seconds >= stage_s:
            checkpoint.save(out, network, average, optimiser, at)
            saved_s = time.monotonic()
    return average


def _batches(
    pictures: Pictures, recipe: Recipe, side: int, number: int, hard: Vector | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Owners int64 [N] and views uint8 [N, 2, side, side, 3] of one round."""
    batches = list(HardBatches(hard, len(pictures), recipe.batch, recipe.seed + number))
    loader = DataLoader(
        Views(pictures, side, f"{recipe.seed}:{number}"),
        batch_sampler=batches,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
    )
    for owners, views in zip(batches, loader, strict=True):
        yield torch.tensor(owners), views


def _step(
    network: CopyDetector, optimiser: torch.optim.Optimizer, views: Tensor, owners: Tensor, queue: Queue
) -> float:
    network.train()
    both = torch.cat([views[:, 0], views[:, 1]])
    first, second = network(both).chunk(2)
    value = loss(first, second, owners, queue)
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimiser.step()
    return float(value.detach())


def _follow(average: dict[str, Tensor], network: CopyDetector) -> None:
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value.detach(), 1 - AVERAGED)
        else:
            average[name].copy_(value)


def _with(average: dict[str, Tensor]) -> CopyDetector:
    return network_with({name: value.cpu() for name, value in average.items()})
