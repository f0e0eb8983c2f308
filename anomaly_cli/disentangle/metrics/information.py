"""Mutual information of latents and factors, and the scores based on it: MIG and modularity."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites import FACTOR_SIZES

BINS = 20  # of equal width between the extremes of a latent, as in disentanglement_lib


def mutual_information(
    codes: NDArray[np.float32],
    factors: NDArray[np.int64],
    *,
    factor_sizes: Sequence[int] = FACTOR_SIZES,
    bins: int = BINS,
) -> NDArray[np.float64]:
    """Estimate the mutual information of every factor and latent in nats, from histograms.

    With N independent images it is too high by about (bins - 1) (values - 1) / 2N: 0.001 nats for
    all of dSprites and 40 values. It is at most ln(bins).

    Args:
        codes: posterior means, shape (N, D).
        factors: factor values, shape (N, K).
        factor_sizes: number of values of each factor.
        bins: number of bins of each latent.

    Returns:
        Shape (K, D), at least 0.
    """
    binned = [_bin(column, bins) for column in codes.T]
    information = np.empty((factors.shape[1], codes.shape[1]))
    for factor, (values, size) in enumerate(zip(factors.T, factor_sizes, strict=True)):
        for latent, places in enumerate(binned):
            joint = np.bincount(values * bins + places, minlength=size * bins)
            information[factor, latent] = _information(joint.reshape(size, bins) / len(codes))
    return information


def _bin(column: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    low, high = float(column.min()), float(column.max())
    if low == high:
        return np.zeros(column.size, np.int64)
    places = (column.astype(np.float64) - low) * (bins / (high - low))
    return places.astype(np.int64).clip(max=bins - 1)


def _information(joint: NDArray[np.float64]) -> float:
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    is_seen = joint > 0
    terms = joint[is_seen] * np.log(joint[is_seen] / independent[is_seen])
    return max(0.0, float(terms.sum()))


def factor_entropies(
    factors: NDArray[np.int64], factor_sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Compute the entropy of each factor over the images, in nats: (N, K) -> (K,)."""
    shares = [
        np.bincount(column, minlength=size) / len(factors)
        for column, size in zip(factors.T, factor_sizes, strict=True)
    ]
    return np.array([-(share[share > 0] * np.log(share[share > 0])).sum() for share in shares])


def mutual_information_gap(
    information: NDArray[np.float64], entropies: NDArray[np.float64]
) -> float:
    """Compute the mutual information gap (MIG) of Chen et al. 2018; in [0, 1].

    The gap of a factor is the information of its most informative latent minus that of the second,
    divided by the entropy of the factor. It is averaged over the factors. With 20 bins a perfect
    code has a gap of ln 20 / ln 40 = 0.81 for a factor of 40 values.

    Args:
        information: of `mutual_information`, shape (K, D); a single latent is compared with 0.
        entropies: of `factor_entropies`, shape (K,), above 0.
    """
    ranked = np.sort(np.pad(information, ((0, 0), (1, 0))), axis=1)
    return float(((ranked[:, -1] - ranked[:, -2]) / entropies).mean())


def modularity(information: NDArray[np.float64], is_active: NDArray[np.bool_]) -> float:
    """Compute the modularity: 1 if each latent informs about one factor alone; in [0, 1].

    Ridgeway and Mozer 2018: 1 - sum of I^2 over the other factors / ((K - 1) max I^2), averaged
    over the active latents that inform about any factor. NaN if there are none, or only one factor.
    Noise too informs about some factor most: a random code of dSprites has a modularity of 0.7.

    Args:
        information: of `mutual_information`, shape (K, D).
        is_active: latents to average over, shape (D,).
    """
    squares = np.square(information[:, is_active & (information.max(axis=0) > 0)])
    others = len(squares) - 1
    if others == 0 or squares.shape[1] == 0:
        return math.nan
    best = squares.max(axis=0)
    return float((1 - (squares.sum(axis=0) - best) / (others * best)).mean())
