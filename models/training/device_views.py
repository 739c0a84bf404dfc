"""More views of the photos of a batch, drawn where the network computes: where a GPU waits for the cores' edits.

Plain tensor versions of edits that `models.edits` has in its trained families: crops, mirror, flip, quarter turns,
rotation, collages, stickers, brightness, contrast, saturation, colour casts, grey, blur and noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

SOURCE_SIDE = 256
# Shares of views that become a collage of four or of two.
FOUR, TWO = 0.1, 0.1


class DeviceViews:
    """Draws views from photos that lie on the device: uint8 [P, 3, 256, 256], 0.2 MB each."""

    def __init__(self, pictures: Sequence[Image.Image], device: str, seed: int) -> None:
        squares = (
            np.array(picture.resize((SOURCE_SIDE, SOURCE_SIDE), Image.Resampling.BILINEAR)) for picture in pictures
        )
        self._photos = torch.stack([torch.from_numpy(square).permute(2, 0, 1).to(device) for square in squares])
        # Width over height, so that what is turned is not slanted too.
        self._aspects = torch.tensor([picture.width / picture.height for picture in pictures], device=device)
        self._random = torch.Generator(device).manual_seed(seed)
        self._device = device

    def __call__(self, owners: Tensor, side: int) -> Tensor:
        """uint8 [N, side, side, 3]: one new view of each of these photos; `side` is even."""
        photos = self._photos[owners].float() / 255
        count = len(photos)
        views = turned_by_quarters(
            self._windows(photos, self._aspects[owners], side), self._below(4, count) * self._chance(0.2, count)
        )
        # Company from all photos: one of this batch would be told apart from what shows it.
        others = self._photos[self._below(len(self._photos), count)].float() / 255
        others = interpolate(others, (side, side), mode="bilinear")
        views = self._covered(self._in_collages(views, others), others)
        views = self._coloured(views)
        views = self._blurred(views)
        noise = torch.randn(views.shape, generator=self._random, device=self._device)
        views = views + noise * (self._uniform(0.02, 0.2, count) * self._chance(0.15, count)).view(-1, 1, 1, 1)
        return (views.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _windows(self, photos: Tensor, aspects: Tensor, side: int) -> Tensor:
        """A window of 12 to 100 % of the area, turned by up to 35 degrees in a third; outside lies one colour."""
        count = len(photos)
        whole = self._chance(0.3, count)
        share = torch.where(whole, 1.0, self._uniform(0.12, 1.0, count))
        stretch = torch.where(whole, 1.0, self._uniform(-0.2, 0.2, count).exp())
        wide, high = (share.sqrt() * stretch).clamp(max=1), (share.sqrt() / stretch).clamp(max=1)
        x, y = (1 - wide) * self._uniform(-1, 1, count), (1 - high) * self._uniform(-1, 1, count)
        mirrored = 1 - 2 * self._chance(0.3, count).float()
        flipped = 1 - 2 * self._chance(0.1, count).float()
        angle = self._uniform(-35, 35, count) * self._chance(0.3, count) * math.pi / 180
        cosine, sine = angle.cos(), angle.sin()
        rows = torch.stack([
            torch.stack([cosine * wide * mirrored, -sine * high * flipped / aspects, x], dim=1),
            torch.stack([sine * wide * mirrored * aspects, cosine * high * flipped, y], dim=1),
        ], dim=1)  # fmt: skip
        grid = affine_grid(rows, [count, 3, side, side], align_corners=False)
        ground = torch.where(self._chance(0.5, count), self._uniform(0, 1, count).round(), self._uniform(0, 1, count))
        ground = ground.view(-1, 1, 1, 1)
        # Outside is zero: what is sampled is the distance from the ground's colour.
        return grid_sample(photos - ground, grid, padding_mode="zeros", align_corners=False) + ground

    def _in_collages(self, views: Tensor, others: Tensor) -> Tensor:
        """A fifth lie in one of two or four fields, other photos in the rest."""
        count, _, side, _ = views.shape
        half = side // 2
        small, company = (interpolate(each, (half, half), mode="bilinear", antialias=True) for each in (views, others))
        fields = torch.stack([small, company, company.roll(1, 0), company.roll(2, 0)])
        fields = fields.gather(0, self._places(count, half))
        four = torch.cat([torch.cat([fields[0], fields[1]], dim=3), torch.cat([fields[2], fields[3]], dim=3)], dim=2)
        tall, beside = (interpolate(each, (side, half), mode="bilinear", antialias=True) for each in (views, others))
        first = self._chance(0.5, count).view(-1, 1, 1, 1)
        pair = torch.where(first, torch.cat([tall, beside], dim=3), torch.cat([beside, tall], dim=3))
        drawn = self._uniform(0, 1, count).view(-1, 1, 1, 1)
        return torch.where(drawn < FOUR, four, torch.where(drawn < FOUR + TWO, pair, views))

    def _places(self, count: int, half: int) -> Tensor:
        """Which field shows which of four pictures, a random order for each."""
        order = torch.rand((4, count), generator=self._random, device=self._device).argsort(dim=0)
        return order.view(4, count, 1, 1, 1).expand(4, count, 3, half, half)

    def _covered(self, views: Tensor, others: Tensor) -> Tensor:
        """A quarter have a rectangle of up to a quarter of the area on them, of one colour or of another photo."""
        count, _, side, _ = views.shape
        places = torch.arange(side, device=self._device) / side
        wide, high = self._uniform(0.1, 0.5, count), self._uniform(0.1, 0.5, count)
        left, top = self._uniform(0, 1, count) * (1 - wide), self._uniform(0, 1, count) * (1 - high)
        across = (places >= left[:, None]) & (places < (left + wide)[:, None])
        along = (places >= top[:, None]) & (places < (top + high)[:, None])
        inside = (along[:, :, None] & across[:, None, :])[:, None] & self._chance(0.25, count).view(-1, 1, 1, 1)
        colour = torch.rand((count, 3, 1, 1), generator=self._random, device=self._device)
        patch = torch.where(self._chance(0.5, count).view(-1, 1, 1, 1), others.roll(3, 0), colour)
        return torch.where(inside, patch, views)

    def _coloured(self, views: Tensor) -> Tensor:
        count = len(views)

        def some(low: float, high: float, share: float) -> Tensor:
            chosen = torch.where(self._chance(share, count), self._uniform(low, high, count), 0.0)
            return chosen.exp().view(-1, 1, 1, 1)

        grey = (views * views.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        kept = torch.where(self._chance(0.12, count).view(-1, 1, 1, 1), 0.0, some(-1.2, 0.9, 0.3))
        views = grey + (views - grey) * kept
        mean = views.mean(dim=(1, 2, 3), keepdim=True)
        views = mean + (views - mean) * some(-0.9, 0.7, 0.3)
        cast = self._uniform(-0.35, 0.35, 3 * count).view(-1, 3, 1, 1)
        views = views * (cast * self._chance(0.25, count).view(-1, 1, 1, 1)).exp()
        return (views * some(-0.9, 0.6, 0.3)).clamp(0, 1)

    def _blurred(self, views: Tensor) -> Tensor:
        """A fifth lose detail: a third of the pixels in each direction."""
        side = views.shape[-1]
        small = interpolate(views, (side // 3, side // 3), mode="bilinear", antialias=True)
        coarse = interpolate(small, (side, side), mode="bicubic").clamp(0, 1)
        return torch.where(self._chance(0.2, len(views)).view(-1, 1, 1, 1), coarse, views)

    def _uniform(self, low: float, high: float, count: int) -> Tensor:
        return torch.rand(count, generator=self._random, device=self._device) * (high - low) + low

    def _chance(self, share: float, count: int) -> Tensor:
        return torch.rand(count, generator=self._random, device=self._device) < share

    def _below(self, limit: int, count: int) -> Tensor:
        return torch.randint(0, limit, (count,), generator=self._random, device=self._device)


def turned_by_quarters(views: Tensor, quarters: Tensor) -> Tensor:
    """Each by its number of quarter turns."""
    for number in (1, 2, 3):
        turned = views.rot90(number, (2, 3))
        views = torch.where((quarters == number).view(-1, 1, 1, 1), turned, views)
    return views
