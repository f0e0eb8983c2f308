"""Context: how well each place fits the rest of its image, by one Gaussian over all places.

A band that is rougher than the tile around it may look like a place of some other normal tile. The
rest of its own image shows that it is unusual. So the appearance of all places of a coarse grid is
one long Gaussian vector x with mean m, and each place is compared with its conditional mean given
the other places. With the precision matrix L of x, a block b of places, and all others o,

    E[x_b | x_o] = x_b - L_bb^-1 (L (x - m))_b,    Cov[x_b | x_o] = L_bb^-1,

so the conditional mean is a linear map of x. The block is a place and its neighbours: without
them, a defect larger than one place would predict itself.

A defect would also change the prediction for all other places and leave ghosts far from it. So the
deviation that a place contributes is clipped at `TOLERATED` times the deviation of normal places:
first its deviation from m, because one hole can spoil every prediction, and then its deviation
from the first prediction.
"""

from collections.abc import Iterable, Sequence
from itertools import product, starmap
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.detector.normal.appearance import NOISE, appearance
from models.whitening import decorrelate, whitening_of

GRIDS = (8, 16)  # places along a side of the image: for large and for small defects
TOLERATED = 2.0  # root mean squares of deviations of normal images: docs/decisions/0018
NEIGHBOURS = 1  # places around one that its prediction leaves out
LEAST_SHRINKAGE = 0.3  # new images differ by more than the training images: docs/decisions/0018
MOST_IMAGES = 4000  # used to fit; with 16 x 16 places they take 50 MB
_REACH = (3,)  # side of the surroundings of a place, in cells of the appearance
_FLOOR = 1e-3  # least deviation in terms of its scale: images that are all equal have none


class NormalContext(NamedTuple):
    """Gaussian of each place of normal images given the others, on a grid of G x G places."""

    mean: Tensor  # (C, G, G), m
    alone: Tensor  # (G, G, C, C), decorrelates x - m at each place
    expectation: Tensor  # (C G G, C G G), maps x - m to the prediction minus m
    whitening: Tensor  # (G, G, C, C), decorrelates deviations from the prediction


def fit_context(fit: Iterable[Tensor], held_out: Iterable[Tensor]) -> tuple[NormalContext, ...]:
    """Fit a Gaussian of each place given the others, for each of `GRIDS`.

    An image has more values than there are images, so the covariance is shrunk as by Ledoit and
    Wolf (2004), and by at least `LEAST_SHRINKAGE`. It still predicts its own training images too
    well. So the deviation from the prediction is measured on held-out images, and scaled to a
    mean square of 1.

    Args:
        fit: batches of normal images (B, 3, S, S) in [0, 1], three images at least.
        held_out: batches of other normal images, one image at least.
    """
    return tuple(starmap(_fit, zip(_places(fit), _places(held_out), strict=True)))


def _places(batches: Iterable[Tensor]) -> list[Tensor]:
    """Compute the appearance of all images on each of `GRIDS`: (N, C, G, G) float64."""
    parts: list[list[Tensor]] = [[] for _ in GRIDS]
    for batch in batches:
        cells = surroundings(batch)
        for grid, of_grid in zip(GRIDS, parts, strict=True):
            of_grid.append(places(cells, grid))
        if sum(map(len, parts[0])) >= MOST_IMAGES:
            break
    return [torch.cat(of_grid).double() for of_grid in parts]


def _fit(values: Tensor, others: Tensor) -> NormalContext:
    """Fit to values (N, C, G, G) of training images; scale by those of held-out images."""
    mean = values.mean(dim=0)
    deviation = values - mean
    scale = (deviation.square().mean(dim=(0, 2, 3)) + NOISE**2).sqrt()
    covariance = _covariance((deviation / scale[:, None, None]).flatten(1))
    alone, expectation, whitening = _of_places(covariance, values.shape[1:])
    scales = scale[:, None, None].expand_as(mean).flatten()
    unscaled = expectation * scales[:, None] / scales
    normal = NormalContext(mean, alone / scale, unscaled, whitening / scale)
    unseen = others - mean
    normal = normal._replace(
        alone=_to_unit(normal.alone, unseen),
        whitening=_to_unit(normal.whitening, unseen - expect(unseen, normal)),
    )
    return NormalContext(*(part.float() for part in normal))


def _to_unit(whitening: Tensor, deviation: Tensor) -> Tensor:
    """Scale a whitening so that deviations (N, C, G, G) have a mean square of 1."""
    return whitening / decorrelate(deviation, whitening).square().mean().sqrt().clamp_min(_FLOOR)


def _covariance(deviation: Tensor) -> Tensor:
    """Estimate the covariance (D, D) of deviations (N, D), shrunk towards the identity."""
    # Two seconds to import, and a trained model does without.
    from sklearn.covariance import ledoit_wolf_shrinkage  # noqa: PLC0415

    own = deviation.T @ deviation / len(deviation)
    share = max(ledoit_wolf_shrinkage(deviation.numpy(), assume_centered=True), LEAST_SHRINKAGE)
    spread = own.diagonal().mean().clamp_min(_FLOOR**2)
    mixed: Tensor = (1 - share) * own + share * spread * torch.eye(len(own))
    return mixed


def _of_places(covariance: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `alone`, `expectation` and `whitening` of a `NormalContext`."""
    count, grid, _ = shape
    precision = torch.linalg.inv(covariance)
    numbers = torch.arange(len(precision)).reshape(shape)
    expectation = torch.eye(len(precision), dtype=precision.dtype)
    alone = precision.new_empty(grid, grid, count, count)
    whitening = torch.empty_like(alone)
    for row, column in product(range(grid), repeat=2):
        around = numbers[:, _near(row), _near(column)].flatten()
        own = numbers[:, row, column]
        here = torch.isin(around, own)  # both in the order of the statistics
        conditional = torch.linalg.inv(precision[around][:, around])[here]
        expectation[own] -= conditional @ precision[around]
        expectation[own[:, None], around] = 0.0  # 0 but for rounding
        alone[row, column] = whitening_of(covariance[own][:, own])
        whitening[row, column] = whitening_of(conditional[:, here])
    return alone, expectation, whitening


def _near(place: int) -> slice:
    return slice(max(0, place - NEIGHBOURS), place + NEIGHBOURS + 1)


def surroundings(images: Tensor) -> Tensor:
    """Compute the appearance of every cell of images (B, 3, H, W) in [0, 1]: (B, 6, g, g)."""
    return appearance(images, _REACH)


def places(cells: Tensor, grid: int) -> Tensor:
    """Average cells (B, 6, g, g) over each place of a grid: x, (B, 6, grid, grid)."""
    return F.adaptive_avg_pool2d(cells, grid)


def context_maps(images: Tensor, normal: Sequence[NormalContext]) -> Tensor:
    """Compute how far each kind of statistic lies from its prediction.

    The squared deviations of the coarser grids are enlarged to the finest one, of G x G places,
    and averaged over the grids.

    Args:
        images: shape (B, 3, H, W) in [0, 1].
        normal: of each grid, from `fit_context`.

    Returns:
        Shape (B, 6, G, G) in the order of `appearance.KINDS`, not negative, about 1 in normal
        images.
    """
    cells = surroundings(images)
    finest = max(own.mean.shape[-1] for own in normal)
    maps = [_squares(places(cells, own.mean.shape[-1]), own) for own in normal]
    size = (finest, finest)
    enlarged = [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return torch.stack(enlarged).mean(dim=0)


def _squares(values: Tensor, normal: NormalContext) -> Tensor:
    """Square the decorrelated deviations (B, C, G, G) from the prediction by clipped values."""
    deviation = values - normal.mean
    first = expect(_clip(deviation, normal.alone), normal)
    clipped = first + _clip(deviation - first, normal.whitening)
    return decorrelate(deviation - expect(clipped, normal), normal.whitening).square()


def _clip(deviation: Tensor, whitening: Tensor) -> Tensor:
    """Clip deviations (B, C, G, G) so that no place lies further off than is tolerated."""
    distance = decorrelate(deviation, whitening).square().mean(dim=1, keepdim=True).sqrt()
    return deviation * TOLERATED / distance.clamp_min(TOLERATED)


def expect(deviation: Tensor, normal: NormalContext) -> Tensor:
    """Predict each place from the others: maps x - m to the prediction - m, (B, C, G, G)."""
    return (deviation.flatten(1) @ normal.expectation.T).reshape(deviation.shape)
