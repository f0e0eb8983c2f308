"""Mixtures of Gaussians: what the normal places of a product look like, wherever they lie."""

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 8192  # values at once, so that what is computed of them stays small


class Mixture(NamedTuple):
    """K Gaussians over C values, as deviations are measured from them."""

    mean: Tensor  # (K, C)
    whitening: Tensor  # (K, C, C), T_k: what decorrelates the deviations from a mean
    rarity: Tensor  # (K,), -2 log(weight_k |T_k|) above the least of them


def misfits(values: Tensor, mixture: Mixture) -> Tensor:
    """How badly values (N, C) fit each Gaussian, (N, K): |T_k (x - m_k)|^2 + rarity_k.

    That is -2 log(weight * density) up to a constant. Multiplied out it is one product of
    matrices, which is many times as fast as a deviation from each mean. Both are taken from the
    middle of the means first: squares of what lies far from 0 would leave float32 nothing to tell.
    """
    middle = mixture.mean.mean(dim=0)
    mean, whitening, rarity = mixture.mean - middle, mixture.whitening, mixture.rarity
    precision = whitening.mT @ whitening
    slope = (precision @ mean[:, :, None])[:, :, 0]
    constant = (slope * mean).sum(dim=1) + rarity
    weights = torch.cat([precision.flatten(1), -2 * slope, constant[:, None]], dim=1)
    return monomials(values - middle) @ weights.T


def monomials(values: Tensor) -> Tensor:
    """The products of every two of the values (N, C), the values, and 1: (N, C^2 + C + 1)."""
    products = (values[:, :, None] * values[:, None, :]).flatten(1)
    return torch.cat([products, values, torch.ones_like(values[:, :1])], dim=1)


def misfit_terms(values: Tensor, mixture: Mixture) -> Tensor:
    """What the misfit of values (N, C) with the Gaussian they fit best is made of, (N, C).

    Not negative: the squares of the decorrelated deviations, each with an equal share of the
    rarity, which is no value's own.
    """
    terms = []
    for part in torch.split(values, CHUNK):
        best = misfits(part, mixture).argmin(dim=1)
        deviation = (part - mixture.mean[best])[:, :, None]
        squares = (mixture.whitening[best] @ deviation)[:, :, 0].square()
        terms.append(squares + mixture.rarity[best, None] / values.shape[1])
    return torch.cat(terms)
