"""How well each place of an image fits the rest of the image: one Gaussian over all places.

A band that is rougher than the tile around it may look like a place of some other normal tile. What
gives it away is the rest of its own image. So the appearance of all places of a coarse grid is one
long Gaussian vector x with mean m, and each place is compared with what the others let expect of
it. With the precision matrix L of x, a block b of places, and all others o,

    E[x_b | x_o] = x_b - L_bb^-1 (L (x - m))_b,    Cov[x_b | x_o] = L_bb^-1,

so what is expected is a linear map of x. The block is a place and those around it, which would
give it away: what lies within a defect expects the defect.

A defect would also make all others expect what is not there, and leave ghosts far from it. So what
a place tells of the others is cut at `TOLERATED` times the deviation of normal places: first that
from m, for one hole can spoil all that is expected, and then that from what is expected.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.appearance import appearance
from models.whitening import decorrelate

GRIDS = (8, 16)  # places along a side of the image: what is large, and what is small
TOLERATED = 2.0  # root mean squares of deviations of normal images: docs/decisions/0018
_REACH = (3,)  # of the appearance around a place, in its own cells


class NormalContext(NamedTuple):
    """What the places of normal images let expect of each other, on a grid of G x G places."""

    mean: Tensor  # (C, G, G), m
    alone: Tensor  # (G, G, C, C), what decorrelates x - m at each place
    expectation: Tensor  # (C G G, C G G), from x - m to what is expected of each place, minus m
    whitening: Tensor  # (G, G, C, C), what decorrelates the deviations from that at each place


def surroundings(images: Tensor) -> Tensor:
    """The appearance of every cell of images (B, 3, H, W) in [0, 1], (B, 6, g, g)."""
    return appearance(images, _REACH)


def places(cells: Tensor, grid: int) -> Tensor:
    """x: the mean of such cells over each place of a grid, (B, 6, grid, grid)."""
    return F.adaptive_avg_pool2d(cells, grid)


def context_maps(images: Tensor, normal: Sequence[NormalContext]) -> Tensor:
    """How unexpected each kind of statistic is, (B, 6, G, G); not negative.

    The kinds are in the order of `appearance.KINDS`.

    G is the finest of the grids; the squared deviations of the coarser ones are enlarged, and the
    mean over the grids is taken. That is about 1 in normal images.
    """
    cells = surroundings(images)
    finest = max(own.mean.shape[-1] for own in normal)
    maps = [_squares(places(cells, own.mean.shape[-1]), own) for own in normal]
    size = (finest, finest)
    enlarged = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return torch.stack(enlarged).mean(dim=0)


def _squares(values: Tensor, normal: NormalContext) -> Tensor:
    """The decorrelated deviations (B, C, G, G) from what those that fit let expect, squared."""
    deviation = values - normal.mean
    first = expect(_tolerate(deviation, normal.alone), normal)
    believed = first + _tolerate(deviation - first, normal.whitening)
    return decorrelate(deviation - expect(believed, normal), normal.whitening).square()


def _tolerate(deviation: Tensor, whitening: Tensor) -> Tensor:
    """Deviations (B, C, G, G), those of each place shortened to what is tolerated."""
    distance = decorrelate(deviation, whitening).square().mean(dim=1, keepdim=True).sqrt()
    return deviation * TOLERATED / distance.clamp_min(TOLERATED)


def expect(deviation: Tensor, normal: NormalContext) -> Tensor:
    """What deviations x - m, (B, C, G, G), let expect of each place, minus m; the same shape."""
    return (deviation.flatten(1) @ normal.expectation.T).reshape(deviation.shape)
