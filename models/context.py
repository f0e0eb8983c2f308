"""How well each place of an image fits the rest of the image: one Gaussian over all places.

A band that is rougher than the tile around it may look like a place of some other normal tile. What
gives it away is the rest of its own image. So the appearance of all places of a coarse grid is one
long Gaussian vector x with mean m, and each place is compared with what the others let expect of
it. With the precision matrix L of x, a block b of places, and all others o,

    E[x_b | x_o] = x_b - L_bb^-1 (L (x - m))_b,    Cov[x_b | x_o] = L_bb^-1,

so the deviations from what is expected are a linear map of x - m. The block is a place and those
around it, which would give it away: what lies within a defect expects the defect.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.appearance import appearance

GRIDS = (8, 16)  # places along a side of the image: what is large, and what is small
_REACH = (3,)  # of the appearance around a place, in its own cells


class NormalContext(NamedTuple):
    """What the places of normal images let expect of each other, on a grid of G x G places."""

    mean: Tensor  # (C, G, G), m
    residual: Tensor  # (C G G, C G G), from x - m to the decorrelated deviations of each place


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
    deviation = (values - normal.mean).flatten(1)
    return (deviation @ normal.residual.T).square().reshape(values.shape)
