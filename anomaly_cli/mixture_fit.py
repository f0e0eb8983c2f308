"""A mixture of Gaussians by expectation and maximization, from what clusters of values begin with.

scikit-learn's `GaussianMixture` takes the values through each Gaussian in turn, and ten times as
long: docs/decisions/0017.
"""

import warnings

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from models.mixture import CHUNK, Mixture, misfits, monomials
from models.whitening import whitening_of

COMPONENTS = 128
_VALUES_PER_COMPONENT = 500  # at least; a covariance of 12 values has 78 numbers
_FLOOR = 1e-3  # of a variance within a component, in terms of the one of all values
_CLUSTERED = 20_000  # values that tell the clusters
_ROUNDS = 10
_LEAST_COUNT = 1e-6  # of a component that no value belongs to any more


def fit_mixture(values: Tensor, *, noise: float) -> Mixture:
    """Fit up to `COMPONENTS` Gaussians with covariances of their own.

    Args:
        values: shape (N, C) float32, in random order.
        noise: standard deviation that each value has besides, of any component.
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
    """Sums of `monomials` over the values of each cluster, (K, C^2 + C + 1)."""
    count = max(1, min(COMPONENTS, len(values) // _VALUES_PER_COMPONENT))
    some = values[:_CLUSTERED]
    clusters = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=0)
    with warnings.catch_warnings():
        # Fewer values that differ than clusters: some stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = clusters.fit(some.numpy()).labels_
    members = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), count).double()
    return members.T @ monomials(some).double()


def _expect(values: Tensor, mixture: Mixture) -> Tensor:
    """The same, each value shared among the components by the posterior probability of each."""
    total = torch.zeros((), dtype=torch.float64)
    for part in torch.split(values, CHUNK):
        shares = (-misfits(part, mixture) / 2).softmax(dim=1)
        total = total + (shares.T @ monomials(part)).double()
    return total


def _maximize(sums: Tensor, floor: Tensor) -> Mixture:
    """The likeliest components of such sums; `floor` (C,) is added to the variances."""
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
