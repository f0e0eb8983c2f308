"""Appearance: brightness, contrast, edges and colour around each place, without a network.

Guided attention finds best what synthetic defects have in common. It overlooks a place that is
merely lighter, rougher or smoother than it should be. Plain statistics of the pixels around a
place show it. They are compared with those of normal images by the Mahalanobis distance,
decorrelated, one term for each statistic. A place is compared with the same place of normal
images or, where parts lie anywhere, with the Gaussian of a mixture that it resembles most.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.detector.normal.mixture import Mixture, fit_mixture, misfit_terms
from anomaly_cli.detector.normal.moments import LocalMoments
from anomaly_cli.detector.together import in_shares
from models.attention import mean_map
from models.vae import to_channels
from models.whitening import decorrelate

GRID = 64  # cells along a side of the image, or as many as it has pixels
# Cells along a side of the surroundings that are averaged around a place.
NEAR = (1, 3)
# Shows better which part of the product a place belongs to, but puts a wide halo around defects:
# surroundings that merely touch a defect are unusual as well.
WIDE = (1, 3, 9)
KINDS = ("brightness", "contrast", "edges_across", "edges_along", "red", "blue")
NOISE = 1e-3  # standard deviation added to each statistic; a quarter of a grey level
_FLOOR = 1 / 255  # a grey level, added before logarithms: differences below it are noise
_ROWS = 8  # of places at once, which bounds the memory of distances from a mixture
_SAMPLES = 100_000  # places of all images that a mixture is fitted to
_MOST_OF_ONE = 1024  # places of one image: neighbours are nearly copies


class PlaceAppearance(NamedTuple):
    """Appearance of normal images at each place, C statistics on a grid of G x G places."""

    mean: Tensor  # (C, G, G), over images
    whitening: Tensor  # (G, G, C, C), decorrelates the deviations from the mean at each place


NormalAppearance = PlaceAppearance | Mixture  # of the same place; of any place


class Way(NamedTuple):
    """One way to model the appearance of normal images."""

    words: str
    is_anywhere: bool  # compared with a mixture over all places, not with the same place
    reaches: tuple[int, ...]  # `NEAR` or `WIDE`


WAYS: Mapping[str, Way] = {  # those with narrower halos first
    "same_place": Way("the same place", False, NEAR),
    "any_place": Way("any place", True, NEAR),
    "same_place_wide": Way("the same place and its wide surroundings", False, WIDE),
    "any_place_wide": Way("any place and its wide surroundings", True, WIDE),
}


def fit_appearance(
    way: Way, batches: Callable[[], Iterable[Tensor]], count: int
) -> NormalAppearance:
    """Fit the appearance of normal images in one of the `WAYS`.

    Args:
        way: what a place is compared with.
        batches: opens the images anew, as batches (B, 3, S, S) in [0, 1].
        count: number of images.
    """
    if way.is_anywhere:
        return fit_anywhere(batches(), way.reaches, count=count)
    return fit_places(batches(), way.reaches)


def fit_places(batches: Iterable[Tensor], reaches: Sequence[int]) -> PlaceAppearance:
    """Fit the appearance of each place of normal images.

    Args:
        batches: images (B, 3, S, S) in [0, 1].
        reaches: `NEAR` or `WIDE`.
    """
    local = LocalMoments()
    for statistics in in_shares(lambda images: appearance(images, reaches), batches):
        local.add(statistics)
    whitening = local.whitening(noise=NOISE)
    assert whitening is not None  # noqa: S101 - 18 statistics on 64 x 64 places are few
    return PlaceAppearance(local.moments.mean.float(), whitening)


def fit_anywhere(batches: Iterable[Tensor], reaches: Sequence[int], *, count: int) -> Mixture:
    """Fit a mixture to a random sample of the places of normal images.

    Args:
        batches: images (B, 3, S, S) in [0, 1].
        reaches: `NEAR` or `WIDE`.
        count: number of images.
    """
    generator = torch.Generator().manual_seed(0)
    wanted = min(_MOST_OF_ONE, -(-_SAMPLES // count))
    sample = [
        of_image.flatten(1).T[torch.randperm(of_image[0].numel(), generator=generator)[:wanted]]
        for statistics in in_shares(lambda images: appearance(images, reaches), batches)
        for of_image in statistics
    ]
    values = torch.cat(sample)
    order = torch.randperm(len(values), generator=generator)
    return fit_mixture(values[order], noise=NOISE)


def count_statistics(normal: NormalAppearance) -> int:
    """Count the statistics C that are compared."""
    return normal.mean.shape[1 if isinstance(normal, Mixture) else 0]


def appearance(images: Tensor, reaches: Sequence[int]) -> Tensor:
    """Compute statistics of the surroundings of each place, at two or three sizes.

    Those of the grey Y are its mean, and the logarithms of its standard deviation and of its mean
    steps from left to right and from top to bottom. Those of the colours are the means of R - Y
    and B - Y.

    Args:
        images: shape (B, 3, H, W) in [0, 1].
        reaches: `NEAR` or `WIDE`.

    Returns:
        (B, C, G, G), the six `KINDS` of the smallest surroundings first.
    """
    grey_values = to_channels(images, 1)[:, 0]
    cells, moments = _cell_means(images, grey_values), _cell_moments(grey_values)
    kinds = []
    for reach in reaches:
        around = F.avg_pool2d(cells, reach, 1, reach // 2, count_include_pad=False)
        grey, across, along, red, blue = around.unbind(1)
        contrast = _deviation(moments, reach).to(grey)
        kinds += [grey, *((_FLOOR + part).log() for part in (contrast, across, along)), red, blue]
    return torch.stack(kinds, dim=1)


def _cell_means(images: Tensor, grey: Tensor) -> Tensor:
    """Average Y, |dY/dx|, |dY/dy|, R - Y and B - Y over cells: (B, 5, G, G)."""
    red, _green, blue = images.unbind(1)
    wide = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]).abs() / 2
    along = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]).abs() / 2
    pixels = torch.stack([grey, across, along, red - grey, blue - grey], dim=1)
    size = (min(GRID, images.shape[2]), min(GRID, images.shape[3]))
    return F.adaptive_avg_pool2d(pixels, size)


def _cell_moments(grey: Tensor) -> Tensor:
    """Average Y and Y^2 (B, H, W) over cells: (B, 2, G, G) float64.

    The variance is a difference of the two. In float32, rounding alone changed the contrast of
    bright and flat places by a tenth, and by another tenth with other kernels.
    """
    # MPS has no float64.
    wide = (grey.cpu() if grey.device.type == "mps" else grey).double()
    rows, columns = (_cell_weights(side).to(wide.device) for side in wide.shape[1:])
    return rows @ torch.stack([wide, wide.square()], dim=1) @ columns.T


def _cell_weights(side: int) -> Tensor:
    """Compute the weights (G, S) that average pixels over cells, as `adaptive_avg_pool2d` does."""
    cells = torch.arange(min(GRID, side))[:, None]
    start, stop = cells * side // len(cells), -(-(cells + 1) * side // len(cells))
    pixels = torch.arange(side)
    is_inside = ((pixels >= start) & (pixels < stop)).double()
    return is_inside / is_inside.sum(dim=1, keepdim=True)


def _deviation(moments: Tensor, reach: int) -> Tensor:
    """Compute the standard deviation (B, G, G) of pixels in windows of `reach` cells a side."""
    weights = []
    for side in moments.shape[2:]:
        cells = torch.arange(side, device=moments.device)
        is_near = ((cells[:, None] - cells).abs() <= reach // 2).double()
        weights.append(is_near / is_near.sum(dim=1, keepdim=True))
    mean, square = (weights[0] @ moments @ weights[1].T).unbind(1)
    return (square - mean.square()).clamp_min(0.0).sqrt()


def appearance_maps(images: Tensor, normal: NormalAppearance) -> Tensor:
    """Compute how unusual each kind of statistic is.

    The mean over kinds is the squared Mahalanobis distance from normal images, divided by C. Each
    statistic contributes its decorrelated deviation (ZCA-cor). With a mixture, the distance is
    from the likeliest Gaussian, and the rarity of that Gaussian is split among the statistics.

    Args:
        images: shape (B, 3, H, W) in [0, 1].
        normal: from `fit_appearance`.

    Returns:
        Shape (B, 6, G, G) in the order of `KINDS`, not negative.
    """
    sizes = count_statistics(normal) // len(KINDS)
    seen = appearance(images, WIDE[:sizes])
    if isinstance(normal, Mixture):
        terms = [
            misfit_terms(rows.flatten(0, 2), normal).reshape(rows.shape)
            for rows in torch.split(seen.permute(0, 2, 3, 1), _ROWS, dim=1)
        ]
        squares = torch.cat(terms, dim=1).permute(0, 3, 1, 2)
    else:
        squares = decorrelate(seen - normal.mean, normal.whitening).square()
    return squares.reshape(images.shape[0], sizes, len(KINDS), *squares.shape[2:]).mean(dim=1)


def appearance_map(images: Tensor, normal: NormalAppearance) -> Tensor:
    """Average `appearance_maps` over kinds, enlarged to the images: (B, H, W)."""
    return mean_map(appearance_maps(images, normal), (images.shape[2], images.shape[3]))
