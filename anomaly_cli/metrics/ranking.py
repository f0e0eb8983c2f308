"""Cumulative counts over the scores of anomalous pixels or images, for ranking metrics."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Counts at or above each of U scores, the highest first.

    Recall, precision and region overlap improve only at the score of a positive (an anomalous
    pixel or image), so the best F1 and IoU lie there too. A group is therefore one distinct score
    of the positives, or one bin of a histogram that holds positives. Negatives between two groups
    need no row.
    """

    scores: NDArray[Any]  # (U,) float32 or float64, descending; the lowest of each group
    true_positives: NDArray[np.int64]  # (U,) positives in this group and above
    false_positives: NDArray[np.int64]  # (U,) negatives in this group and above
    false_positives_before: NDArray[np.int64]  # (U,) negatives above this group
    overlap: NDArray[np.float64]  # (U,) part of a region at or above, averaged over regions
    is_tie: NDArray[np.bool_]  # (U,) one score; else several, whose order is not known
    positives: int
    negatives: int

    @property
    def group_positives(self) -> NDArray[np.int64]:
        """Positives in each group, shape (U,)."""
        return np.diff(self.true_positives, prepend=0)

    @property
    def group_overlap(self) -> NDArray[np.float64]:
        """Overlap that each group adds, shape (U,)."""
        return np.diff(self.overlap, prepend=0.0)


def run_starts(ascending: NDArray[Any]) -> NDArray[np.int64]:
    """Find the index of the first element of each run of equal values, shape (U,)."""
    is_first = np.ones(ascending.size, np.bool_)
    is_first[1:] = ascending[1:] != ascending[:-1]
    return np.flatnonzero(is_first)


def rank_scores(
    positives: NDArray[Any], weights: NDArray[np.float64], negative_runs: Iterable[NDArray[Any]]
) -> Ranking:
    """Rank positives among negatives exactly; equal scores form one group.

    Args:
        positives: scores or keys of the positives, ascending, shape (P,).
        weights: relative weight of each positive in the overlap, shape (P,).
        negative_runs: scores or keys of the negatives in parts, each ascending.
    """
    starts = run_starts(positives)
    distinct = positives[starts]
    negatives = 0
    at_or_above = np.zeros(distinct.size, np.int64)
    above = np.zeros(distinct.size, np.int64)
    for run in negative_runs:
        negatives += run.size
        at_or_above += run.size - np.searchsorted(run, distinct, side="left")
        above += run.size - np.searchsorted(run, distinct, side="right")
    true_positives = positives.size - starts[::-1]
    gathered = np.cumsum(weights[::-1])
    return Ranking(
        scores=distinct[::-1],
        true_positives=true_positives,
        false_positives=at_or_above[::-1],
        false_positives_before=above[::-1],
        overlap=gathered[true_positives - 1] / gathered[-1:],
        is_tie=np.ones(distinct.size, np.bool_),
        positives=positives.size,
        negatives=negatives,
    )
