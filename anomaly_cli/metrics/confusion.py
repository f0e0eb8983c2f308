"""Counts of pixels classified rightly and wrongly at one threshold.

They are exact, and the counts of several images can be added.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.pixels import check_pixels, find_regions


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels; every rate is in [0, 1], NaN where its denominator is 0."""

    true_positives: int = 0
    false_positives: int = 0
    positives: int = 0
    negatives: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.positives + other.positives,
            self.negatives + other.negatives,
        )

    @property
    def precision(self) -> float:
        """Share of the pixels classified as anomalous that are anomalous."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the anomalous pixels that are classified as anomalous."""
        return _ratio(self.true_positives, self.positives)

    @property
    def iou(self) -> float:
        """Intersection over union of the pixels classified as anomalous and the anomalous ones."""
        return _ratio(self.true_positives, self.positives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        called = self.true_positives + self.false_positives
        return _ratio(2 * self.true_positives, called + self.positives)

    @property
    def false_positive_rate(self) -> float:
        """Share of the normal pixels that are classified as anomalous."""
        return _ratio(self.false_positives, self.negatives)


class Found(NamedTuple):
    """Comparison of an anomaly mask with the ground truth of one image."""

    pixels: Confusion
    missed_regions: int  # anomalous regions without any pixel in the mask


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def find(called: NDArray[np.bool_], mask: NDArray[np.bool_]) -> Found:
    """Compare an anomaly mask with the ground truth, shape (H, W) each."""
    truth = find_regions(mask)
    is_found = called[mask]
    found_regions = np.bincount(truth.labels[is_found], minlength=truth.areas.size) > 0
    positives, true_positives = truth.labels.size, int(np.count_nonzero(is_found))
    pixels = Confusion(
        true_positives=true_positives,
        false_positives=int(np.count_nonzero(called)) - true_positives,
        positives=positives,
        negatives=mask.size - positives,
    )
    return Found(pixels, int(np.count_nonzero(~found_regions)))


def confusion(
    anomaly_map: NDArray[np.float32],
    mask: NDArray[np.bool_],
    *,
    threshold: float,
    name: str = "the anomaly map",
) -> Confusion:
    """Count the pixels of one image, where `score > threshold` is classified as anomalous.

    The results of several images can be added: `sum(results, Confusion())`.

    Args:
        anomaly_map: scores, shape (H, W) float32.
        mask: ground truth, shape (H, W) bool.
        threshold: score above which a pixel is classified as anomalous.
        name: of the map in error messages, such as its file.

    Raises:
        DataError: NaN among the scores, no pixels, or shapes that differ.
        ValueError: types other than those above.
    """
    check_pixels(anomaly_map, mask, name=name)
    return find(anomaly_map > threshold, mask).pixels
