"""Metrics of one category, and their spread when its test images are drawn anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.evaluation import CountedImage
from anomaly_cli.metrics.bootstrap import (
    count_bins,
    draw_weights,
    rank_bins,
    resample_images,
    resample_pixels,
)
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics, pixel_metrics

PIXELS = ("pixel_auroc", "aupro", "average_precision", "best_f1", "best_iou")
IMAGES = {
    "image_auroc": "image_auroc",
    "image_average_precision": "average_precision",
    "image_best_f1": "best_f1",
}  # name in a report: name in `ImageMetrics`

Replicates = dict[str, NDArray[np.float64]]  # by name of the metric, (R,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """What a stored threshold makes of N images."""

    is_anomalous: NDArray[np.bool_]  # (N,)
    is_called: NDArray[np.bool_]  # (N,)
    pixels: NDArray[np.int64]  # (N, 3): true positives, false positives, positives

    def rates(self, weights: NDArray[np.float64]) -> Replicates:
        """Rates over the images, each counted `weights` (R, N) times; NaN where undefined."""
        found, wrong, positives = (weights @ self.pixels).T
        normal, anomalous = ~self.is_anomalous, self.is_anomalous
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "iou": found / (positives + wrong),
                "precision": found / (found + wrong),
                "recall": found / positives,
                "image_false_positive_rate": weights
                @ (self.is_called & normal)
                / (weights @ normal),
                "image_recall": weights @ (self.is_called & anomalous) / (weights @ anomalous),
            }


def judge(counted: Sequence[CountedImage], threshold: float) -> Verdicts:
    """Hold every image against a threshold."""
    confusions = [image.pixels.confusion(threshold) for image in counted]
    return Verdicts(
        is_anomalous=np.array([image.sample.is_anomalous for image in counted]),
        is_called=np.array([image.peak for image in counted]) > threshold,
        pixels=np.array([[c.true_positives, c.false_positives, c.positives] for c in confusions]),
    )


def metric_values(
    pixels: PixelMetrics, images: ImageMetrics, rates: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """The metrics of a report by name; `rates` of one replicate."""
    values = {name: float(getattr(pixels, name)) for name in PIXELS}
    values |= {name: float(getattr(images, source)) for name, source in IMAGES.items()}
    return values | {name: float(rate[0]) for name, rate in rates.items()}


def resample(
    category: str,
    counted: Sequence[CountedImage],
    exact: PixelMetrics,
    verdicts: Verdicts | None,
    *,
    count: int,
    seed: int,
) -> Replicates:
    """Every metric for each of `count` draws of the images, stratified by defect type.

    The bins of the pixel metrics cost them a little accuracy; what that is on the whole split
    is known, and taken off each replicate.
    """
    strata = [image.sample.defect_type for image in counted]
    weights = draw_weights(strata, replicates=count, seed=seed, name=category)
    histograms = count_bins([image.pixels for image in counted])
    binned = pixel_metrics(rank_bins(histograms, np.ones(len(counted))))
    drawn = resample_pixels(histograms, weights)
    values: Replicates = {}
    for name in PIXELS:
        shift = getattr(exact, name) - getattr(binned, name)
        replicates = np.array([getattr(metrics, name) for metrics in drawn], np.float64)
        values[name] = np.clip(replicates + shift, 0.0, 1.0)
    scores = np.array([image.score for image in counted])
    labels = np.array([image.sample.is_anomalous for image in counted])
    of_images = resample_images(scores, labels, weights)
    for name, source in IMAGES.items():
        values[name] = np.array([getattr(metrics, source) for metrics in of_images], np.float64)
    return values | (verdicts.rates(weights) if verdicts else {})
