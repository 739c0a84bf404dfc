"""The training loop: one page, resumable, in stages of a bounded time."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.network import CopyDetector, network_with, scaled
from models.training import checkpoint
from models.training.checkpoint import Progress
from models.training.device_views import DeviceViews
from models.training.loss import Queue, loss
from models.training.views import Pictures, Rounds, Views, neighbours_of
from schemas.events import Vector

CURVE = "curve.jsonl"
CLIP = 5.0
AVERAGED = 0.995
SAVED_EVERY_S = 300.0
# Of more than four thousand pictures, which take a CPU a quarter of a minute.
JUDGED_EVERY_S = 60.0
WARM_UP_STEPS = 100
# Neighbours change slowly, and finding them costs a tenth of a round.
HARD_EVERY_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a stage does.

    Resolutions are (share of the stage's time, side in pixels), one after the other. Device views are drawn of each
    photo of a batch beside the two that processes edit (`models.training.device_views`).
    """

    minutes: float = 90.0
    batch: int = 160
    queue: int = 1280
    backbone_rate: float = 4e-4
    head_rate: float = 1e-3
    weight_decay: float = 1e-2
    resolutions: tuple[tuple[float, int], ...] = ((0.7, 144), (1.0, 192))
    workers: int = 2
    device_views: int = 0
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
    stage_s = recipe.minutes * 60
    if at.seconds >= stage_s:
        return average
    begun_s = time.monotonic() - at.seconds
    judged_s = saved_s = at.seconds
    queue = Queue(recipe.queue)
    drawn = DeviceViews(pictures, device, recipe.seed + at.round) if recipe.device_views else None
    rounds = Rounds(len(pictures), recipe.batch, recipe.seed, at.round, recipe.side(at.seconds / stage_s))
    batches: Iterator[tuple[Tensor, Tensor]] | None = None
    while at.seconds < stage_s:
        if recipe.hard_negatives and at.round % HARD_EVERY_ROUNDS == 0:
            rounds.neighbours = neighbours_of(encode(_with(average)))
        rounds.side = recipe.side(at.seconds / stage_s)
        batches = batches or _batches(pictures, rounds, recipe, device)
        losses = []
        for owners, views in itertools.islice(batches, rounds.steps):
            _set_rates(optimiser, base_rates, recipe.rate(at.seconds / stage_s, at.step))
            every = [views[:, 0], views[:, 1]]
            if drawn is not None:
                every += [drawn(owners, views.shape[2]) for _ in range(recipe.device_views)]
            losses.append(_step(network, optimiser, torch.stack(every), owners, queue))
            _follow(average, network)
            at.step, at.seconds = at.step + 1, time.monotonic() - begun_s
            if at.seconds >= stage_s:
                break
        at.round += 1
        line = {**asdict(at), "side": views.shape[2], "loss": float(torch.stack(losses).mean())}
        over = at.seconds >= stage_s
        if over or at.seconds - judged_s >= JUDGED_EVERY_S:
            line |= judge(_with(average))
            judged_s = at.seconds = time.monotonic() - begun_s
        _write(out / CURVE, line, say)
        if over or at.seconds - saved_s >= SAVED_EVERY_S:
            checkpoint.save(out, network, average, optimiser, at)
            saved_s = at.seconds
    return average


def _set_rates(optimiser: torch.optim.Optimizer, base_rates: Sequence[float], factor: float) -> None:
    for group, base in zip(optimiser.param_groups, base_rates, strict=True):
        group["lr"] = base * factor


def _write(curve: Path, line: dict[str, float], say: Callable[[str], None]) -> None:
    text = json.dumps({name: round(value, 4) for name, value in line.items()})
    with curve.open("a") as file:
        file.write(text + "\n")
    say(text)


def _batches(pictures: Pictures, rounds: Rounds, recipe: Recipe, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Owners int64 [N] and views uint8 [N, 2, side, side, 3] on the device, without an end."""
    loader = DataLoader(
        Views(pictures, recipe.seed),
        batch_sampler=rounds,
        num_workers=recipe.workers,
        prefetch_factor=2 if recipe.workers else None,
        pin_memory=device != "cpu",
    )
    for owners, views in loader:
        yield owners.to(device, non_blocking=True), views.to(device, non_blocking=True)


def _step(
    network: CopyDetector, optimiser: torch.optim.Optimizer, views: Tensor, owners: Tensor, queue: Queue
) -> Tensor:
    """For views uint8 [V, N, side, side, 3]; the loss. On a GPU the convolutions compute in bfloat16."""
    network.train()
    with torch.autocast(views.device.type, torch.bfloat16, enabled=views.is_cuda):
        features = network.features(scaled(views.flatten(0, 1)))
    embedded = nn.functional.normalize(network.projected_from(features.float()), dim=-1)
    value = loss(embedded.view(*views.shape[:2], -1), owners, queue)
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimiser.step()
    return value.detach()


def _follow(average: dict[str, Tensor], network: CopyDetector) -> None:
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value.detach(), 1 - AVERAGED)
        else:
            average[name].copy_(value)


def _with(average: dict[str, Tensor]) -> CopyDetector:
    return network_with(average).to(next(iter(average.values())).device)
