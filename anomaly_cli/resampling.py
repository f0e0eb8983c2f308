"""Metrics of one category, and their spread when its test images are drawn anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.counting import JudgedImage
from anomaly_cli.metrics.bootstrap import resample_images, weigh
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics

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

    def rates(self, weights: NDArray[np.uint8]) -> Replicates:
        """Rates over the images, each counted `weights` (R, N) times; NaN where undefined."""
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
    """What the threshold that the images were held against makes of them."""
    pixels = [image.pixels for image in images]
    return Verdicts(
        is_anomalous=np.array([image.sample.is_anomalous for image in images]),
        is_called=np.array([image.is_called for image in images]),
        pixels=np.array([[c.true_positives, c.false_positives, c.positives] for c in pixels]),
    )


def metric_values(
    pixels: PixelMetrics, images: ImageMetrics, rates: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """The metrics of a report by name; `rates` of one replicate."""
    values = {name: float(getattr(pixels, name)) for name in PIXELS}
    values |= {name: float(getattr(images, source)) for name, source in IMAGES.items()}
    return values | {name: float(rate[0]) for name, rate in rates.items()}


def resample(
    images: Sequence[JudgedImage],
    weights: NDArray[np.uint8],
    pixels: PixelMetrics,
    binned: Sequence[PixelMetrics],
    verdicts: Verdicts | None,
) -> Replicates:
    """Every metric for each draw of the images, `weights` (R, N).

    Args:
        images: of the category.
        weights: how often each draw takes each image.
        pixels: metrics of all pixels.
        binned: the same over the bins of the draws, then those of each draw. What the bins cost
            on the whole split is known, and taken off each.
        verdicts: of a stored threshold.
    """
    values: Replicates = {}
    whole, *drawn = binned
    for name in PIXELS:
        shift = getattr(pixels, name) - getattr(whole, name)
        replicates = np.array([getattr(metrics, name) for metrics in drawn], np.float64)
        values[name] = np.clip(replicates + shift, 0.0, 1.0)
    scores = np.array([image.score for image in images])
    labels = np.array([image.sample.is_anomalous for image in images])
    of_images = resample_images(scores, labels, weights)
    for name, source in IMAGES.items():
        values[name] = np.array([getattr(metrics, source) for metrics in of_images], np.float64)
    return values | (verdicts.rates(weights) if verdicts else {})
