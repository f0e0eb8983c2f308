"""Ranking metrics, each with the range that the bins of a ranking leave open.

A group with one score leaves no range. In a bin with several scores the order is lost: the low end
assumes that the negatives of every such bin rank above its positives, the high end the reverse.
The true value lies between them, up to rounding (below 1e-10).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.ranking import Ranking


class Bracket(NamedTuple):
    """Value of a metric, and how far the true one may lie from it to either side."""

    value: float
    bound: float  # 0 where exact


class Optimum(NamedTuple):
    """Best value over all thresholds, an oracle: the threshold is chosen with the ground truth."""

    value: float
    bound: float  # 0 where exact; the true optimum is never below the value
    threshold: float  # `score > threshold` has the value


def _bracket(low: NDArray[np.float64], high: NDArray[np.float64], total: float = 1.0) -> Bracket:
    """Sum the terms of U groups, each of which lies between its `low` and `high`.

    Divided by `total` at the end: terms that are whole numbers add up exactly, and 63 of 63 is 1.
    """
    ends = float(low.sum()) / total, float(high.sum()) / total
    # Rounding may exceed 1 by an epsilon.
    return Bracket(value=min(sum(ends) / 2, 1.0), bound=(ends[1] - ends[0]) / 2)


def _curve_area(ranking: Ranking, gains: NDArray[Any], limit: float, total: float = 1.0) -> Bracket:
    """Average the height, up to `limit` false positives, of a curve.

    It rises by `gains` (U,), of which `total` are a height of 1.
    """
    before = ranking.false_positives_before.astype(np.float64)
    after = ranking.false_positives.astype(np.float64)
    # Each gain counts from its place to the limit: that place comes after (late) or before (early)
    # all false positives of its group. A tie rises along a line, which the limit may cut.
    late = np.maximum(limit - after, 0.0) / limit
    early = np.maximum(limit - before, 0.0) / limit
    width = after - before
    climbed = np.clip(limit - before, 0.0, width)
    tied = late + climbed * climbed / np.maximum(2.0 * width, 1.0) / limit
    return _bracket(
        gains * np.where(ranking.is_tie, tied, late),
        gains * np.where(ranking.is_tie, tied, early),
        total,
    )


def roc_area(ranking: Ranking) -> Bracket:
    """Compute P(positive > negative) + P(positive = negative) / 2, in [0, 1]."""
    return _curve_area(ranking, ranking.group_positives, ranking.negatives, total=ranking.positives)


def overlap_area(ranking: Ranking, *, fpr_limit: float) -> Bracket:
    """Average the region overlap over false-positive rates from 0 to the limit, in [0, 1]."""
    return _curve_area(ranking, ranking.group_overlap, fpr_limit * ranking.negatives)


def average_precision(ranking: Ranking) -> Bracket:
    """Average the precision at each score, weighted by the recall it adds, in [0, 1].

    There is no interpolation.
    """
    group = ranking.group_positives.astype(np.float64)
    found, wrong = ranking.true_positives, ranking.false_positives
    tied = found / (found + wrong)
    # Best case: all positives of a bin tie above its negatives, and share one precision.
    best = found / (found + ranking.false_positives_before)
    # Worst case: they rank below all negatives, one by one. Their precisions rise along a concave
    # curve, so the mean is at least that of the first and the last.
    first = found - group + 1
    worst = (first / (first + wrong) + tied) / 2
    return _bracket(
        group * np.where(ranking.is_tie, tied, worst),
        group * np.where(ranking.is_tie, tied, best),
        total=ranking.positives,
    )


def best_f1(ranking: Ranking) -> Optimum:
    """Find the highest 2 TP / (2 TP + FP + FN) over all thresholds, in [0, 1]."""
    doubled = 2 * ranking.true_positives
    predicted = ranking.true_positives + ranking.positives
    values = doubled / (predicted + ranking.false_positives)
    best_values = doubled / (predicted + ranking.false_positives_before)
    return _optimum(ranking, values, best_values)


def best_iou(ranking: Ranking) -> Optimum:
    """Find the highest TP / (P + FP) over all thresholds, of all images together, in [0, 1]."""
    values = ranking.true_positives / (ranking.positives + ranking.false_positives)
    best_values = ranking.true_positives / (ranking.positives + ranking.false_positives_before)
    return _optimum(ranking, values, best_values)


def _optimum(
    ranking: Ranking, values: NDArray[np.float64], best_values: NDArray[np.float64]
) -> Optimum:
    best = int(np.argmax(values))
    score = ranking.scores[best]
    return Optimum(
        value=float(values[best]),
        bound=float(np.where(ranking.is_tie, values, best_values).max() - values[best]),
        # The next lower number, so that `score > threshold` includes the score itself.
        threshold=float(np.nextafter(score, score.dtype.type(-np.inf))),
    )
