"""Mixtures of Gaussians: fitted to normal values, and the distance of new values from them.

They are fitted by expectation maximization that begins with clusters of k-means. scikit-learn's
`GaussianMixture` evaluates one Gaussian after the other, which takes ten times as long:
docs/decisions/0017.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from models.whitening import whitening_of

COMPONENTS = 128
CHUNK = 8192  # values at once, which bounds the memory of intermediate results
_VALUES_PER_COMPONENT = 500  # at least; a covariance of 12 values has 78 numbers
_FLOOR = 1e-3  # least variance within a component, in terms of the variance of all values
_CLUSTERED = 20_000  # values that the clusters are found from
_ROUNDS = 10
_LEAST_COUNT = 1e-6  # count of a component that no value belongs to any more


class Mixture(NamedTuple):
    """K Gaussians over C values, in the form that distances from them need."""

    mean: Tensor  # (K, C)
    whitening: Tensor  # (K, C, C), T_k: decorrelates the deviations from a mean
    rarity: Tensor  # (K,), -2 log(weight_k |T_k|) minus the least of them


def fit_mixture(values: Tensor, *, noise: float) -> Mixture:
    """Fit up to `COMPONENTS` Gaussians with covariances of their own.

    Args:
        values: shape (N, C) float32, in random order.
        noise: standard deviation that is added to each value in every component.
    """
    scale = values.std(dim=0, correction=0) + noise
    middle = values.mean(dim=0)
    scaled = (values - middle) / scale
    floor = _FLOOR + (noise / scale.double()).square()
    mixture = _maximize(_clusters(scaled), floor)
    for _ in range(_ROUNDS):
        mixture = _maximize(_expect(scaled, mixture), floor)
    mean = mixture.mean * scale + middle
    return Mixture(mean, mixture.whitening / scale, mixture.rarity)


def _clusters(values: Tensor) -> Tensor:
    """Cluster the values; sum `monomials` over the values of each cluster: (K, C^2 + C + 1)."""
    # Two seconds to import, and a trained model does without.
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    count = max(1, min(COMPONENTS, len(values) // _VALUES_PER_COMPONENT))
    some = values[:_CLUSTERED]
    clusters = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=0)
    with warnings.catch_warnings():
        # With fewer distinct values than clusters, some clusters stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = clusters.fit(some.numpy()).labels_
    members = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), count).double()
    return members.T @ monomials(some).double()


def _expect(values: Tensor, mixture: Mixture) -> Tensor:
    """Sum `monomials` of values weighted by the posterior probability of each component.

    Returns:
        (K, C^2 + C + 1) float64.
    """
    total = torch.zeros((), dtype=torch.float64)
    for part in torch.split(values, CHUNK):
        shares = (-misfits(part, mixture) / 2).softmax(dim=1)
        total = total + (shares.T @ monomials(part)).double()
    return total


def _maximize(sums: Tensor, floor: Tensor) -> Mixture:
    """Compute the likeliest components from sums of `monomials`.

    Args:
        sums: shape (K, C^2 + C + 1) float64.
        floor: added to the variances, shape (C,).
    """
    dimensions = len(floor)
    count = sums[:, -1].clamp_min(_LEAST_COUNT)
    moments = sums / count[:, None]
    mean = moments[:, dimensions**2 : -1]
    second = moments[:, : dimensions**2].reshape(-1, dimensions, dimensions)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    covariance = (covariance + covariance.mT) / 2 + floor.diag()
    whitening = whitening_of(covariance)
    rarity = -2 * ((count / count.sum()).log() + torch.linalg.slogdet(whitening).logabsdet)
    return Mixture(mean.float(), whitening.float(), (rarity - rarity.min()).float())


def misfits(values: Tensor, mixture: Mixture) -> Tensor:
    """Compute how badly values fit each Gaussian: |T_k (x - m_k)|^2 + rarity_k.

    This is -2 log(weight * density) up to a constant. Multiplied out, it is one product of
    matrices, which is many times as fast as a deviation from each mean. The mean of all means is
    subtracted first: float32 is too coarse for differences of squares of large numbers.

    Args:
        values: shape (N, C).
        mixture: K Gaussians.

    Returns:
        Shape (N, K).
    """
    middle = mixture.mean.mean(dim=0)
    mean, whitening, rarity = mixture.mean - middle, mixture.whitening, mixture.rarity
    precision = whitening.mT @ whitening
    slope = (precision @ mean[:, :, None])[:, :, 0]
    constant = (slope * mean).sum(dim=1) + rarity
    weights = torch.cat([precision.flatten(1), -2 * slope, constant[:, None]], dim=1)
    return monomials(values - middle) @ weights.T


def monomials(values: Tensor) -> Tensor:
    """List the products of every two of the values (N, C), the values, and 1: (N, C^2 + C + 1)."""
    products = (values[:, :, None] * values[:, None, :]).flatten(1)
    return torch.cat([products, values, torch.ones_like(values[:, :1])], dim=1)


def misfit_terms(values: Tensor, mixture: Mixture) -> Tensor:
    """Split the misfit of values with the Gaussian that they fit best into one term per value.

    A term is the square of a decorrelated deviation plus an equal share of the rarity.

    Args:
        values: shape (N, C).
        mixture: K Gaussians.

    Returns:
        Shape (N, C), not negative.
    """
    best = misfits(values, mixture).argmin(dim=1)
    deviation = (values - mixture.mean[best])[:, :, None]
    squares = (mixture.whitening[best] @ deviation)[:, :, 0].square()
    return squares + mixture.rarity[best, None] / values.shape[1]
