"""Scores in standard deviations from the mean of normal images, everywhere or per position."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.files.resize import resize_map

PRIOR_IMAGES = 10  # weight of the pooled variance in scores per position


class ScoreScale(NamedTuple):
    """Scale that turns map values into standard deviations from the mean of normal images."""

    mean: NDArray[np.float32]  # (g, g); (1, 1) where it is the same at all positions
    std: NDArray[np.float32]  # the same shape, positive

    def __call__(self, anomaly_map: AnomalyMap) -> AnomalyMap:
        """Score each pixel of a map (H, W)."""
        mean, std = self
        if mean.size > 1:
            mean, std = (resize_map(part, *anomaly_map.shape) for part in self)
        return np.asarray((anomaly_map - mean) / std, dtype=np.float32)


def position_scale(
    mean: NDArray[np.float64], variance: NDArray[np.float64], count: int
) -> ScoreScale:
    """Make a scale per position from the mean and variance (g, g) over `count` images.

    The variance is shrunk towards its mean over positions, as if PRIOR_IMAGES more images had that
    mean. Otherwise, with few images, the variance of some position would be too small by chance.
    """
    shrunk = count * variance + PRIOR_IMAGES * variance.mean()
    return score_scale(mean, shrunk / (count + PRIOR_IMAGES))


def score_scale(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> ScoreScale:
    """Make a scale from a mean and a variance (g, g); a variance of 0 becomes a tiny one."""
    smallest = np.finfo(np.float32).tiny  # for maps that are constant on all normal images
    std = np.sqrt(np.maximum(variance, np.square(1e-6 * np.abs(mean)) + smallest))
    return ScoreScale(mean.astype(np.float32), std.astype(np.float32))
