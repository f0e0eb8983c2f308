"""What the places of normal images let expect of each other: the Gaussian of `models.context`."""

from collections.abc import Iterable
from itertools import product, starmap

import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from anomaly_cli.normality import APPEARANCE_NOISE
from models.context import GRIDS, NormalContext, expect, places, surroundings
from models.whitening import decorrelate, whitening_of

NEIGHBOURS = 1  # places around one that tell nothing of it: a defect would expect itself
LEAST_SHRINKAGE = 0.3  # new images differ in more than those at hand do: docs/decisions/0018
_FLOOR = 1e-3  # of deviations in terms of their scale: equal images have none
MOST_IMAGES = 4000  # that are looked at; of 16 x 16 places, 50 MB


def fit_context(fit: Iterable[Tensor], held_out: Iterable[Tensor]) -> tuple[NormalContext, ...]:
    """One Gaussian for each of `GRIDS`.

    There are more values in an image than images, so the covariance is shrunk as Ledoit and Wolf
    (2004) have it, and by `LEAST_SHRINKAGE` at least. Of the images that it was fitted to it still
    expects too much: how far normal places are from what is expected is measured on held-out
    images, and their mean square made 1.

    Args:
        fit: batches of normal images (B, 3, S, S) in [0, 1], three at least.
        held_out: others, one at least.
    """
    return tuple(starmap(_fit, zip(_places(fit), _places(held_out), strict=True)))


def _places(batches: Iterable[Tensor]) -> list[Tensor]:
    """The values of all images on each of `GRIDS`."""
    parts: list[list[Tensor]] = [[] for _ in GRIDS]
    for batch in batches:
        cells = surroundings(batch)
        for grid, of_grid in zip(GRIDS, parts, strict=True):
            of_grid.append(places(cells, grid))
        if sum(map(len, parts[0])) >= MOST_IMAGES:
            break
    return [torch.cat(of_grid).double() for of_grid in parts]


def _fit(values: Tensor, others: Tensor) -> NormalContext:
    """Values (N, C, G, G) of images that are fitted, and of others."""
    mean = values.mean(dim=0)
    deviation = values - mean
    scale = (deviation.square().mean(dim=(0, 2, 3)) + APPEARANCE_NOISE**2).sqrt()
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
    """A whitening (G, G, C, C) that makes the mean square of such deviations (N, C, G, G) 1."""
    return whitening / decorrelate(deviation, whitening).square().mean().sqrt().clamp_min(_FLOOR)


def _covariance(deviation: Tensor) -> Tensor:
    """Of deviations (N, D), mixed with the identity as far as so few images call for."""
    own = deviation.T @ deviation / len(deviation)
    share = max(ledoit_wolf_shrinkage(deviation.numpy(), assume_centered=True), LEAST_SHRINKAGE)
    spread = own.diagonal().mean().clamp_min(_FLOOR**2)
    mixed: Tensor = (1 - share) * own + share * spread * torch.eye(len(own))
    return mixed


def _of_places(covariance: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of a `NormalContext` but the mean."""
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
        expectation[own[:, None], around] = 0.0  # it is, but for rounding
        alone[row, column] = whitening_of(covariance[own][:, own])
        whitening[row, column] = whitening_of(conditional[:, here])
    return alone, expectation, whitening


def _near(place: int) -> slice:
    return slice(max(0, place - NEIGHBOURS), place + NEIGHBOURS + 1)
