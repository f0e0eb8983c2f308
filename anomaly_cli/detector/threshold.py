"""Thresholds from scores of normal images, and the uncertainty of their false-positive rates."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from anomaly_cli.config.values import NO_OUTLINE

NO_LEVEL = math.nan  # `normal_level` of a map whose regions do not end at half of their height
COVERAGE = 0.9  # probability that a range of false-positive rates covers


class Threshold(NamedTuple):
    """A map value above which (`>`) a region is anomalous, and where it comes from."""

    value: float  # NaN: nothing is anomalous
    rule: str  # a rule, or "given" for a number that the user typed
    held_out: int  # number of normal images behind it; 0 for a given number
    outline: float = NO_OUTLINE  # map value at which regions end; NaN: at the threshold
    rates: tuple[float, float] | None = None  # range of the false-positive rate, see `rate_range`
    normal_level: float = NO_LEVEL  # median of normal pixels, see `masks`; NaN: not used

    def is_exceeded(self, score: float) -> bool:
        """Check whether an image with this score is anomalous."""
        return score > self.value

    def record(self) -> dict[str, Any]:
        """List the fields as plain JSON values."""
        return {
            "threshold": self.value,
            "threshold_rule": self.rule,
            "outline": None if math.isnan(self.outline) else self.outline,
            "normal_level": None if math.isnan(self.normal_level) else self.normal_level,
            "expected_rates": None if self.rates is None else list(self.rates),
        }


def gumbel_limit(maxima: NDArray[np.float32], rate: float) -> float:
    """Estimate from few maxima the value that the next one exceeds with a probability of `rate`.

    The maximum of many similar values follows Gumbel's distribution (Fisher and Tippett 1928). It
    is fitted by its first two moments, and widened by Student's t for their uncertainty. With 2 to
    38 maxima of that distribution the probability is 1.0 to 1.15 times the rate (measured for
    rates of 0.05 to 0.2). A single maximum is returned as it is: it has no spread.

    Args:
        maxima: shape (N,).
        rate: in (0, 1).
    """
    count = len(maxima)
    if count < 2:
        return float(maxima[0])
    values = maxima.astype(np.float64)
    scale = float(values.std(ddof=1)) * math.sqrt(6) / math.pi
    widened = float(stdtrit(count - 1, 1 - rate) / ndtri(1 - rate)) * math.sqrt(1 + 1 / count)
    reduced = -math.log(-math.log1p(-rate))
    return float(values.mean() + scale * (reduced * widened - np.euler_gamma))


def rate_range(mean: float, parts: int) -> tuple[float, float]:
    """Compute the range of one model's false-positive rate, with 90% probability.

    A rank among N maxima keeps its rate on average over all draws of N images. The rate of one draw
    follows a beta distribution (Vovk 2012, "Conditional validity of inductive conformal
    predictors"). Photographs of one part count as one image.

    Args:
        mean: the rate that is kept on average, in (0, 1).
        parts: held-out images, photographs of one part counted once; at least one.

    Returns:
        The low and the high end, in [0, 1].
    """
    above, below = mean * (parts + 1), (1 - mean) * (parts + 1)
    tail = (1 - COVERAGE) / 2
    return float(betaincinv(above, below, tail)), float(betaincinv(above, below, 1 - tail))
