"""Compare two methods that were trained with the same seeds, and list the paper's scores."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from anomaly_cli.config.disentangle import Method
from anomaly_cli.disentangle.runs import Run

CONFIDENCE = 0.95

# Table 3 of the paper: FactorVAE score by beta of the beta-VAE, and by gamma of the other two.
TABLE_3: dict[Method, dict[float, float]] = {
    "beta-vae": {1: 0.69, 4: 0.73, 6: 0.70, 16: 0.68},
    "factor-vae": {10: 0.75, 20: 0.77, 40: 0.82, 100: 0.70},
    "ad-factor-vae": {10: 0.91, 20: 0.93, 40: 0.93, 100: 0.84},
}
CAVEAT = (
    "The paper does not say over how many seeds its figures are, nor for how many steps it "
    "trained; public reproductions train for 300,000. Its figures for the beta-VAE are those of "
    "Kim and Mnih."
)


class PairedDifference(NamedTuple):
    """One score of the second method minus that of the first method, over shared seeds."""

    name: str
    first: float  # mean of the first method over its seeds
    second: float
    differences: tuple[float, ...]  # of each seed; NaN where one of the two is undefined
    mean: float
    low: float  # of the 95% Student t interval of the mean, NaN below two pairs
    high: float

    @property
    def pairs(self) -> int:
        """Number of pairs in which both scores are defined."""
        return sum(map(math.isfinite, self.differences))


def compare_runs(first: Sequence[Run], second: Sequence[Run]) -> list[PairedDifference]:
    """Compare every score, and the statistics of the last tenth of training.

    Args:
        first: runs of one method.
        second: runs of the other, with the same seeds in the same order.
    """
    named = [(run.scores._asdict() | _last(run)) for run in (*first, *second)]
    return [
        paired_difference(
            name,
            [values[name] for values in named[: len(first)]],
            [values[name] for values in named[len(first) :]],
        )
        for name in named[0]
    ]


def _last(run: Run) -> dict[str, float]:
    """Average statistics over the last tenth of training, because one batch is noisy."""
    last = run.history[-max(1, len(run.history) // 10) :]
    names = ("reconstruction", "kl", "overlap", "shape_overlap", "empty_maps")
    return {name: float(np.mean([getattr(stats, name) for stats in last])) for name in names}


def paired_difference(
    name: str, first: Sequence[float], second: Sequence[float]
) -> PairedDifference:
    """Compute the mean difference of pairs with its 95% Student t interval.

    The interval assumes that the differences are independent draws of one normal distribution.
    """
    differences = np.subtract(second, first)
    defined = differences[np.isfinite(differences)]
    mean = float(defined.mean()) if defined.size else math.nan
    half_width = math.nan
    if defined.size > 1:
        quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, defined.size - 1)
        half_width = float(quantile * defined.std(ddof=1) / math.sqrt(defined.size))
    return PairedDifference(
        name=name,
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        differences=tuple(differences.tolist()),
        mean=mean,
        low=mean - half_width,
        high=mean + half_width,
    )
