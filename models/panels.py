"""Panels: rectangles inside a picture that look like pictures of their own.

A collage, a screenshot, a picture in a picture or a broad border hides a copy in a part of the upload. Where such a
part lies is told by its sides: straight lines along which neighbouring pixels differ more than a few pixels away, all
the way. It needs NumPy only, because decoder processes import it.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.preprocess import SIDE, Pixels

PANELS_MAX = 4
# A panel is one try more to find something, and may be less of a picture than it looks: its score is lowered by this.
COST = 0.05

# Two pixels that differ by this much, of 255, are an edge when no two within 3 to 5 pixels of them differ as much.
_STEP = 6
_NEAR, _FAR = 3, 5
_LINES_MAX = 6
_LINE_MIN = 0.25
_APART = 5
# Share of a side that is an edge, at the least: of each, and of all on average by how many lie inside the picture
# (a horizon is one straight line; four that meet are rarely chance).
_SIDE_MIN = 0.5
_MEAN_MIN = {1: 0.72, 2: 0.68, 3: 0.64, 4: 0.55}
_SIDE_PIXELS_MIN = 40
_AREA_MIN, _AREA_MAX = 0.1, 0.92
_OVERLAP_MAX = 0.7
# Text and plain grounds: of 8 x 8 blocks fewer than a quarter have a ground of less than two fifths, the ground being
# what is within 8 levels of the commonest brightness.
_BLOCKS = 8
_LEVELS = 8
_GROUND_MAX, _FILLED_MIN = 0.4, 0.25

# Stands for the share of a side that lies on the picture's own rim.
_RIM = 2.0

_Flags: TypeAlias = NDArray[np.bool_]
_Numbers: TypeAlias = NDArray[np.intp]


class Box(NamedTuple):
    """A rectangle in pixels of the reduced picture, 0 to 224; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The same, of width and height."""
        return self.left / SIDE, self.top / SIDE, self.right / SIDE, self.bottom / SIDE

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def overlap(self, other: Box) -> float:
        """Area in common over area covered."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        common = max(0, width) * max(0, height)
        return common / (self.area + other.area - common)


def panels(pixels: Pixels) -> list[Box]:
    """The panels of uint8 [224, 224, 3], the surest first, at most four."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    upright, level = _edges(planes), _edges(planes.swapaxes(1, 2))
    columns, rows = _places(upright), _places(level)
    of_columns, of_rows = _shares(upright, columns, rows), _shares(level, rows, columns)
    left, right = _apart(columns)
    top, bottom = (ends[:, None] for ends in _apart(rows))
    upright_sides = of_columns[left, top, bottom], of_columns[right, top, bottom]
    sides = np.stack([*upright_sides, of_rows[top, left, right], of_rows[bottom, left, right]])
    found = []
    for down, across in np.argwhere((sides >= _SIDE_MIN).all(axis=0)):
        inner = [share for share in sides[:, down, across].tolist() if share != _RIM]
        if not inner or sum(inner) < _MEAN_MIN[len(inner)] * len(inner):
            continue
        box = Box(columns[left[across]], rows[top[down, 0]], columns[right[across]], rows[bottom[down, 0]])
        if _AREA_MIN <= box.area / SIDE**2 <= _AREA_MAX:
            # A cell is surer than its row, which has one side less.
            found.append((sum(share - _SIDE_MIN for share in inner), box))
    kept: list[Box] = []
    for _, box in sorted(found, reverse=True):
        if len(kept) == PANELS_MAX:
            break
        if all(box.overlap(other) < _OVERLAP_MAX for other in kept) and not _plain(planes, box):
            kept.append(box)
    return kept


def _plain(planes: Pixels, box: Box) -> bool:
    """Whether hardly anything is in the box but a ground, or text on one. A thing on white fills more blocks."""
    # The sum of a pixel's colours: three times its brightness.
    inside = planes[:, box.top : box.bottom, box.left : box.right].sum(axis=0, dtype=np.int16)
    levels = np.bincount((inside // (3 * _LEVELS)).ravel(), minlength=256 // _LEVELS)
    ground = np.abs(inside - 3 * _LEVELS * ((levels[:-1] + levels[1:]).argmax() + 1)) <= 3 * _LEVELS
    rows, columns = (np.linspace(0, size, _BLOCKS, endpoint=False).astype(int) for size in ground.shape)
    counts = np.add.reduceat(np.add.reduceat(ground, rows, axis=0, dtype=np.int64), columns, axis=1)
    sizes = np.diff([*rows, ground.shape[0]])[:, None] * np.diff([*columns, ground.shape[1]])
    return float((counts < _GROUND_MAX * sizes).mean()) < _FILLED_MIN


def _edges(planes: Pixels) -> _Flags:
    """[3, 224, 224] -> [224, 224]: whether the pixels left and right of one differ, and more than those farther off."""
    before, after = planes[..., :-2], planes[..., 2:]
    steps = np.zeros_like(planes[0], shape=(SIDE, SIDE + 2 * _FAR))
    (np.maximum(before, after) - np.minimum(before, after)).max(axis=0, out=steps[:, _FAR + 1 : _FAR + SIDE - 1])
    around = np.full_like(planes[0], _STEP)
    for offset in range(_NEAR, _FAR + 1):
        for shift in (_FAR - offset, _FAR + offset):
            np.maximum(around, steps[:, shift : shift + SIDE], out=around)
    edges: _Flags = steps[:, _FAR : _FAR + SIDE] > around
    return edges


def _places(edges: _Flags) -> list[int]:
    """Where straight upright lines are: at most six, and both rims of the picture. Ascending."""
    counts = edges.view(np.uint8).sum(axis=0, dtype=np.uint8)
    places = [0, SIDE]
    for _ in range(_LINES_MAX):
        place = int(counts.argmax())
        if counts[place] < _LINE_MIN * SIDE:
            break
        places.append(place)
        counts[max(0, place - _APART + 1) : place + _APART] = 0
    return sorted(places)


def _apart(places: list[int]) -> tuple[_Numbers, _Numbers]:
    """Which two are far enough from each other for a panel, by number: the first ones, and the second ones."""
    pairs = [(a, b) for a, b in combinations(range(len(places)), 2) if places[b] - places[a] >= _SIDE_PIXELS_MIN]
    first, second = np.array(pairs).T
    return first, second


def _shares(edges: _Flags, places: list[int], ends: list[int]) -> NDArray[np.float64]:
    """Of every line, between every two ends, the share that is an edge; a line may be a pixel off.

    A rim of the picture is no line: `_RIM`.
    """
    near = np.clip(np.array(places)[:, None] + (-1, 0, 1), 0, SIDE - 1)
    lines = edges.view(np.uint8)[:, near.ravel()]
    counts = np.zeros((len(ends), *near.shape), dtype=np.int64)
    np.add.reduceat(lines, ends[:-1], axis=0, dtype=np.uint8).reshape(-1, *near.shape).cumsum(axis=0, out=counts[1:])
    lengths = np.maximum(1, np.array(ends)[None, :] - np.array(ends)[:, None])
    shares: NDArray[np.float64] = ((counts[None] - counts[:, None]).max(axis=3) / lengths[..., None]).transpose(2, 0, 1)
    shares[[0, -1]] = _RIM
    return shares
