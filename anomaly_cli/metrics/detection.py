"""Metrics of anomaly localization (pixels) and detection (images) of one category.

All metrics rank scores: there is no sigmoid, no bins of equal width and no normalisation. A
strictly increasing function of the scores changes none of them. Without both anomalous and normal
pixels (or images) a metric is undefined, and NaN.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.errors import DataError
from anomaly_cli.metrics import brackets
from anomaly_cli.metrics.ranking import Ranking, rank_scores


class PixelBounds(NamedTuple):
    """Largest difference of each metric from its exact value; 0 if exact, NaN if undefined."""

    pixel_auroc: float
    average_precision: float
    best_f1: float
    best_iou: float
    aupro: float


class PixelMetrics(NamedTuple):
    """Pixel metrics of one category; each in [0, 1], higher is better, NaN if undefined."""

    pixel_auroc: float  # ties count half
    average_precision: float  # by steps, as scikit-learn defines it
    best_f1: float  # oracle
    best_f1_threshold: float  # score > threshold has best_f1; -inf if scores of -inf count as well
    best_iou: float  # oracle; TP / (P + FP) of all images together
    best_iou_threshold: float
    aupro: float  # mean region overlap for false-positive rates from 0 to aupro_fpr_limit
    aupro_fpr_limit: float
    bounds: PixelBounds


class ImageMetrics(NamedTuple):
    """Image metrics of one category; each in [0, 1], higher is better, NaN if undefined."""

    image_auroc: float  # ties count half
    average_precision: float
    best_f1: float  # oracle
    best_f1_threshold: float  # score > threshold has best_f1


def pixel_metrics(ranking: Ranking, *, fpr_limit: float = 0.3) -> PixelMetrics:
    """Compute the metrics of ranked pixels.

    Args:
        ranking: from `rank_pixels` or `StreamingCounts.ranking`.
        fpr_limit: false-positive rate to which AU-PRO integrates, in (0, 1].

    Raises:
        ValueError: fpr_limit is out of range.
    """
    if not 0.0 < fpr_limit <= 1.0:
        raise ValueError(f"fpr_limit must be in (0, 1], got {fpr_limit}")
    if ranking.positives == 0 or ranking.negatives == 0:
        return _undefined(fpr_limit)
    auroc = brackets.roc_area(ranking)
    precision = brackets.average_precision(ranking)
    f1 = brackets.best_f1(ranking)
    iou = brackets.best_iou(ranking)
    aupro = brackets.overlap_area(ranking, fpr_limit=fpr_limit)
    return PixelMetrics(
        pixel_auroc=auroc.value,
        average_precision=precision.value,
        best_f1=f1.value,
        best_f1_threshold=f1.threshold,
        best_iou=iou.value,
        best_iou_threshold=iou.threshold,
        aupro=aupro.value,
        aupro_fpr_limit=fpr_limit,
        bounds=PixelBounds(auroc.bound, precision.bound, f1.bound, iou.bound, aupro.bound),
    )


def _undefined(fpr_limit: float) -> PixelMetrics:
    nan = math.nan
    bounds = PixelBounds(nan, nan, nan, nan, nan)
    return PixelMetrics(nan, nan, nan, nan, nan, nan, nan, fpr_limit, bounds)


def image_metrics(
    scores: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.bool_]
) -> ImageMetrics:
    """Compute the exact metrics of one score per image.

    Args:
        scores: anomaly scores, shape (N,); infinite ones are allowed.
        labels: whether each image is anomalous, shape (N,).

    Raises:
        DataError: NaN among the scores.
        ValueError: shapes or types other than those above.
    """
    if scores.ndim != 1 or scores.shape != labels.shape or labels.dtype != np.bool_:
        raise ValueError(f"expected one score and one bool per image, got {scores.shape} scores")
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).sum())} of {scores.size} image scores are NaN")
    positives, negatives = np.sort(scores[labels]), np.sort(scores[~labels])
    if positives.size == 0 or negatives.size == 0:
        return ImageMetrics(*[math.nan] * 4)
    ranking = rank_scores(positives, np.ones(positives.size), [negatives])
    f1 = brackets.best_f1(ranking)
    return ImageMetrics(
        image_auroc=brackets.roc_area(ranking).value,
        average_precision=brackets.average_precision(ranking).value,
        best_f1=f1.value,
        best_f1_threshold=f1.threshold,
    )
