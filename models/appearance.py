"""How each place of an image looks: brightness, contrast, edges and colour, without a network.

Guided latents know best what drawn defects have in common, and overlook what no drawing had: a
place that is merely lighter, rougher or smoother than it should be. Plain statistics of the pixels
around a place see that. They are compared with those of normal images as local latents are:
by the Mahalanobis distance, decorrelated, one term for each statistic. What is compared is the same
place, or where parts lie anywhere, the kind of place, a Gaussian of a mixture, that it resembles
most.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.mixture import Mixture, misfit_terms
from models.vae import to_channels
from models.whitening import decorrelate

GRID = 64  # cells along a side of the image, or as many as it has pixels
# Cells along a side of what is averaged around a place.
NEAR = (1, 3)
# Tells more of what a place belongs to, and puts a wide halo around defects: surroundings that
# merely touch one are unusual as well.
WIDE = (1, 3, 9)
KINDS = ("brightness", "contrast", "edges_across", "edges_along", "red", "blue")
_FLOOR = 1 / 255  # a grey level, added before logarithms: differences below it are noise


class PlaceAppearance(NamedTuple):
    """Appearance of normal images at each place, C statistics on a grid of G x G places."""

    mean: Tensor  # (C, G, G), over images
    whitening: Tensor  # (G, G, C, C), what decorrelates the deviations from it at each place


NormalAppearance = PlaceAppearance | Mixture  # at each place; of every kind of place


def count_statistics(normal: NormalAppearance) -> int:
    """The number C of statistics that are compared."""
    return normal.mean.shape[1 if isinstance(normal, Mixture) else 0]


def appearance(images: Tensor, reaches: Sequence[int]) -> Tensor:
    """What the surroundings of each place look like, at two or three sizes.

    Of the grey Y: its mean, and the logarithms of its standard deviation and of its mean steps
    from left to right and from top to bottom; of the colours: the means of R - Y and B - Y.

    Args:
        images: shape (B, 3, H, W) in [0, 1].
        reaches: `NEAR` or `WIDE`.

    Returns:
        (B, C, G, G), the six `KINDS` of the smallest surroundings first.
    """
    cells = _cell_means(images)
    kinds = []
    for reach in reaches:
        around = F.avg_pool2d(cells, reach, 1, reach // 2, count_include_pad=False)
        grey, square, across, along, red, blue = around.unbind(1)
        contrast = (square - grey.square()).clamp_min(0.0).sqrt()
        kinds += [grey, *((_FLOOR + part).log() for part in (contrast, across, along)), red, blue]
    return torch.stack(kinds, dim=1)


def _cell_means(images: Tensor) -> Tensor:
    """Y, Y^2, |dY/dx|, |dY/dy|, R - Y and B - Y, averaged over cells, (B, 6, G, G)."""
    red, _green, blue = images.unbind(1)
    grey = to_channels(images, 1)[:, 0]
    wide = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]).abs() / 2
    along = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]).abs() / 2
    pixels = torch.stack([grey, grey.square(), across, along, red - grey, blue - grey], dim=1)
    size = (min(GRID, images.shape[2]), min(GRID, images.shape[3]))
    return F.adaptive_avg_pool2d(pixels, size)


def appearance_maps(images: Tensor, normal: NormalAppearance) -> Tensor:
    """How unusual each kind of statistic is, (B, 6, G, G), in the order of `KINDS`; not negative.

    Their mean is the Mahalanobis distance of the appearance from that of normal images, squared,
    over C; each statistic counts with its decorrelated deviation (ZCA-cor). Of a mixture it is the
    distance from the Gaussian that is likeliest, and each statistic bears a part of its rarity.
    """
    sizes = count_statistics(normal) // len(KINDS)
    seen = appearance(images, WIDE[:sizes])
    if isinstance(normal, Mixture):
        values = seen.permute(0, 2, 3, 1)
        terms = misfit_terms(values.flatten(0, 2), normal).reshape(values.shape)
        squares = terms.permute(0, 3, 1, 2)
    else:
        squares = decorrelate(seen - normal.mean, normal.whitening).square()
    return squares.reshape(len(images), sizes, len(KINDS), *squares.shape[2:]).mean(dim=1)


def appearance_map(images: Tensor, normal: NormalAppearance) -> Tensor:
    """The mean of `appearance_maps`, enlarged to the images, (B, H, W)."""
    return mean_map(appearance_maps(images, normal), (images.shape[2], images.shape[3]))


def mean_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of the terms (B, D, h, w) of a map, enlarged bilinearly, (B, *size)."""
    mean = maps.mean(dim=1, keepdim=True)
    return F.interpolate(mean, size, mode="bilinear", align_corners=False)[:, 0]
