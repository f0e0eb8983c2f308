"""Each ranking metric as the interval that a ranking leaves open.

Groups of one score leave none. In a bin of several scores the order is lost: the low end assumes
that the negatives of every such bin stand above its positives, the high end the reverse. The
true value lies between, up to rounding (below 1e-10).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.ranking import Ranking


class Bracket(NamedTuple):
    """A value, and how far the true one may lie from it to either side."""

    value: float
    bound: float  # 0 where exact


class Optimum(NamedTuple):
    """The best value over all thresholds, chosen with the labels: an oracle."""

    value: float
    bound: float  # 0 where exact; the true optimum is never below the value
    threshold: float  # where `score > threshold` reaches the value


def _bracket(low: NDArray[np.float64], high: NDArray[np.float64]) -> Bracket:
    """Of the sum over groups, each of which lies between its `low` and `high` (U,)."""
    ends = float(low.sum()), float(high.sum())
    # Rounding alone may pass 1 by an epsilon.
    return Bracket(value=min(sum(ends) / 2, 1.0), bound=(ends[1] - ends[0]) / 2)


def _curve_area(ranking: Ranking, gains: NDArray[np.float64], limit: float) -> Bracket:
    """Mean height, up to `limit` false positives, of a curve that rises by `gains` (U,)."""
    before = ranking.false_positives_before.astype(np.float64)
    after = ranking.false_positives.astype(np.float64)
    # Part of the way to the limit that each gain is held, if it comes after, or before, all
    # false positives of its group. A tie rises along a line, which the limit may cut.
    late = np.maximum(limit - after, 0.0) / limit
    early = np.maximum(limit - before, 0.0) / limit
    width = after - before
    climbed = np.clip(limit - before, 0.0, width)
    tied = late + climbed * climbed / np.maximum(2.0 * width, 1.0) / limit
    return _bracket(
        gains * np.where(ranking.is_tie, tied, late), gains * np.where(ranking.is_tie, tied, early)
    )


def roc_area(ranking: Ranking) -> Bracket:
    """P(positive > negative) + P(positive = negative) / 2, in [0, 1]."""
    gains = ranking.group_positives / ranking.positives
    return _curve_area(ranking, gains, ranking.negatives)


def overlap_area(ranking: Ranking, *, fpr_limit: float) -> Bracket:
    """Region overlap averaged over false-positive rates from 0 to the limit, in [0, 1]."""
    return _curve_area(ranking, ranking.group_overlap, fpr_limit * ranking.negatives)


def average_precision(ranking: Ranking) -> Bracket:
    """Precision at each score, weighted by the recall it adds, without interpolation."""
    group = ranking.group_positives
    found, wrong = ranking.true_positives, ranking.false_positives
    tied = found / (found + wrong)
    # Best: all positives of the bin tie above its negatives, and share one precision.
    best = found / (found + ranking.false_positives_before)
    # Worst: below all negatives, one by one. Their precisions rise along a concave curve, so
    # their mean is at least that of the first and the last.
    first = found - group + 1
    worst = (first / (first + wrong) + tied) / 2
    recall = group / ranking.positives
    return _bracket(
        recall * np.where(ranking.is_tie, tied, worst),
        recall * np.where(ranking.is_tie, tied, best),
    )


def best_f1(ranking: Ranking) -> Optimum:
    """Highest 2 TP / (2 TP + FP + FN) over all thresholds, in [0, 1]."""
    doubled = 2 * ranking.true_positives
    predicted = ranking.true_positives + ranking.positives
    reached = doubled / (predicted + ranking.false_positives)
    reachable = doubled / (predicted + ranking.false_positives_before)
    return _optimum(ranking, reached, reachable)


def best_iou(ranking: Ranking) -> Optimum:
    """Highest TP / (P + FP) over all thresholds, of all images together, in [0, 1]."""
    reached = ranking.true_positives / (ranking.positives + ranking.false_positives)
    reachable = ranking.true_positives / (ranking.positives + ranking.false_positives_before)
    return _optimum(ranking, reached, reachable)


def _optimum(
    ranking: Ranking, reached: NDArray[np.float64], reachable: NDArray[np.float64]
) -> Optimum:
    best = int(np.argmax(reached))
    score = ranking.scores[best]
    return Optimum(
        value=float(reached[best]),
        bound=float(np.where(ranking.is_tie, reached, reachable).max() - reached[best]),
        # The next lower number, so that `score > threshold` takes the score itself in.
        threshold=float(np.nextafter(score, score.dtype.type(-np.inf))),
    )
