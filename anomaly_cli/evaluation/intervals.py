"""Metrics of one category, and their values over random draws of its test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.evaluation.counts import JudgedImage
from anomaly_cli.evaluation.metric_names import IMAGES, PIXELS
from anomaly_cli.metrics.bootstrap import resample_images, weigh
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics

Replicates = dict[str, NDArray[np.float64]]  # by name of the metric, (R,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """Classification of N images and their pixels by the stored threshold."""

    is_anomalous: NDArray[np.bool_]  # (N,)
    is_called: NDArray[np.bool_]  # (N,)
    pixels: NDArray[np.int64]  # (N, 3): true positives, false positives, positives

    def rates(self, weights: NDArray[np.uint8]) -> Replicates:
        """Compute rates over the images, each counted `weights` (R, N) times.

        Returns:
            By metric, shape (R,), in [0, 1]; NaN where undefined.
        """
        normal, anomalous = ~self.is_anomalous, self.is_anomalous
        groups = [normal, self.is_called & normal, anomalous, self.is_called & anomalous]
        sums = weigh(weights, np.concatenate([self.pixels, np.stack(groups, axis=1)], axis=1))
        found, wrong, positives, normals, false_alarms, anomalies, alarms = sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "iou": found / (positives + wrong),
                "precision": found / (found + wrong),
                "recall": found / positives,
                "image_false_positive_rate": false_alarms / normals,
                "image_recall": alarms / anomalies,
            }


def judge(images: Sequence[JudgedImage]) -> Verdicts:
    """Collect the classification of images by the stored threshold."""
    pixels = [image.pixels for image in images]
    return Verdicts(
        is_anomalous=np.array([image.sample.is_anomalous for image in images]),
        is_called=np.array([image.is_called for image in images]),
        pixels=np.array([[c.true_positives, c.false_positives, c.positives] for c in pixels]),
    )


def metric_values(
    pixels: PixelMetrics, images: ImageMetrics, rates: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """List the metrics of a report by name; each of `rates` holds one value."""
    values = {metric.key: float(getattr(pixels, metric.source)) for metric in PIXELS}
    values |= {metric.key: float(getattr(images, metric.source)) for metric in IMAGES}
    return values | {name: float(rate[0]) for name, rate in rates.items()}


def resample(
    images: Sequence[JudgedImage],
    weights: NDArray[np.uint8],
    pixels: PixelMetrics,
    binned: Sequence[PixelMetrics],
    verdicts: Verdicts | None,
) -> Replicates:
    """Compute every metric for each of R draws of the images.

    Args:
        images: the images of the category.
        weights: how often each draw takes each image, (R, N).
        pixels: metrics of all pixels.
        binned: pixel metrics from bins, of all images and then of each draw. The error of the bins
            is measured on all images and subtracted from each draw.
        verdicts: classification by the stored threshold; None if there is none.

    Returns:
        By metric, shape (R,), in [0, 1]; NaN where undefined.
    """
    values: Replicates = {}
    whole, *drawn = binned
    for metric in PIXELS:
        name = metric.source
        shift = getattr(pixels, name) - getattr(whole, name)
        replicates = np.array([getattr(metrics, name) for metrics in drawn], np.float64)
        values[metric.key] = np.clip(replicates + shift, 0.0, 1.0)
    scores = np.array([image.score for image in images])
    labels = np.array([image.sample.is_anomalous for image in images])
    of_images = resample_images(scores, labels, weights)
    for metric in IMAGES:
        of_metric = [getattr(metrics, metric.source) for metrics in of_images]
        values[metric.key] = np.array(of_metric, np.float64)
    return values | (verdicts.rates(weights) if verdicts else {})
