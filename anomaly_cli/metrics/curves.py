"""ROC and PRO curves for reports, thinned without losing their shape."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.ranking import Ranking


class Curves(NamedTuple):
    """ROC curve (recall) and PRO curve (overlap) over one axis: K points from (0, 0) to (1, 1).

    Each point belongs to the masks `score > threshold`. Between two points lies a straight line.
    """

    false_positive_rate: NDArray[np.float64]  # (K,) ascending from 0 to 1
    recall: NDArray[np.float64]  # (K,) ascending from 0 to 1
    overlap: NDArray[np.float64]  # (K,) ascending from 0 to 1; average over regions
    threshold: NDArray[np.float64]  # (K,) descending from inf to -inf


def detection_curves(ranking: Ranking, *, max_points: int = 1000) -> Curves:
    """Compute curves of at most `max_points` points; of none without positives or negatives.

    The points are spread evenly along the curve, so a steep part keeps as many as a flat one: no
    point of the full curves is farther than 3 / (max_points - 1) from the thinned ones.

    Raises:
        ValueError: max_points is below 2.
    """
    if max_points < 2:
        raise ValueError(f"max_points must be at least 2, got {max_points}")
    if ranking.positives == 0 or ranking.negatives == 0:
        return Curves(*[np.zeros(0)] * 4)
    scores = ranking.scores
    below = np.nextafter(scores, scores.dtype.type(-np.inf))
    before, after = ranking.false_positives_before, ranking.false_positives
    recall = ranking.true_positives / ranking.positives
    full = Curves(
        false_positive_rate=_closed(
            0.0, before / ranking.negatives, after / ranking.negatives, 1.0
        ),
        recall=_closed(0.0, _delayed(recall), recall, 1.0),
        overlap=_closed(0.0, _delayed(ranking.overlap), ranking.overlap, 1.0),
        threshold=_closed(np.inf, scores, below, -np.inf),
    )
    return _thinned(full, max_points)


def _delayed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift values by one group, to those that hold before each group: shape (U,)."""
    return np.concatenate([[0.0], values[:-1]])


def _closed(first: float, before: NDArray[Any], after: NDArray[Any], last: float) -> NDArray[Any]:
    """Interleave the values before and after each group, between `first` and `last`: (2 U + 2,)."""
    corners = np.stack([before, after], axis=1).ravel()
    return np.concatenate([[first], corners, [last]])


def _thinned(curves: Curves, max_points: int) -> Curves:
    travelled = curves.false_positive_rate + curves.recall + curves.overlap
    stops = np.linspace(0.0, travelled[-1], max_points)
    kept = np.unique(np.searchsorted(travelled, stops))
    return Curves(*(curve[kept] for curve in curves))
