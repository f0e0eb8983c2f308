"""Sorted pixels of one image, which can be counted at any threshold, pooled, and resampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.confusion import Confusion
from anomaly_cli.metrics.keys import key_scores, score_keys
from anomaly_cli.metrics.pixels import check_pixels, find_regions, split_pixels
from anomaly_cli.metrics.ranking import Ranking, rank_scores

AREA_BITS = np.uint64(32)  # number of lower bits of a packed positive that hold the area


class PixelPool(NamedTuple):
    """Sorted pixels of any number of images; 8 bytes for an anomalous one, 4 for a normal one."""

    positives: NDArray[np.uint64]  # (P,) key << 32 | area of the pixel's region, ascending
    negatives: NDArray[np.uint32]  # (N,) keys, ascending


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePixels:
    """Sorted pixels of one image, and the highest score of each of its anomalous regions."""

    pixels: PixelPool
    region_peaks: NDArray[np.uint32]  # (R,) keys

    def confusion(self, threshold: float) -> Confusion:
        """Count the pixels, where `score > threshold` is classified as anomalous.

        The result is that of a comparison with the float32 map: the threshold is rounded to
        float32, and with NaN no pixel is classified as anomalous.
        """
        positives, negatives = self.pixels
        true_positives = false_positives = 0
        if not np.isnan(threshold):
            key = _threshold_key(threshold)
            next_key = (np.uint64(key) + np.uint64(1)) << AREA_BITS
            true_positives = positives.size - int(np.searchsorted(positives, next_key))
            false_positives = negatives.size - int(np.searchsorted(negatives, key, side="right"))
        return Confusion(true_positives, false_positives, positives.size, negatives.size)

    def missed_regions(self, threshold: float) -> int:
        """Count the anomalous regions without any pixel above the threshold."""
        if np.isnan(threshold):
            return self.region_peaks.size
        return int(np.count_nonzero(self.region_peaks <= _threshold_key(threshold)))


NO_PIXELS = ImagePixels(
    pixels=PixelPool(np.zeros(0, np.uint64), np.zeros(0, np.uint32)),
    region_peaks=np.zeros(0, np.uint32),
)


def _threshold_key(threshold: float) -> np.uint32:
    with np.errstate(over="ignore"):
        return np.uint32(score_keys(np.array([threshold], np.float64).astype(np.float32))[0])


def sort_pixels(
    anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], *, name: str = "the anomaly map"
) -> ImagePixels:
    """Sort the pixels of one image.

    Args:
        anomaly_map: scores, shape (H, W) float32; infinite ones are allowed.
        mask: ground truth, shape (H, W) bool.
        name: of the map in error messages, such as its file.

    Raises:
        DataError: NaN among the scores, no pixels, or shapes that differ.
        ValueError: types other than those above.
    """
    check_pixels(anomaly_map, mask, name=name)
    keys = split_pixels(anomaly_map, mask)
    regions = find_regions(mask)
    peaks = np.zeros(regions.areas.size, np.uint32)
    np.maximum.at(peaks, regions.labels, keys.positive)
    areas = regions.areas[regions.labels].astype(np.uint64)
    positives = keys.positive.astype(np.uint64) << AREA_BITS | areas
    positives.sort()
    keys.negative.sort()
    return ImagePixels(pixels=PixelPool(positives, keys.negative), region_peaks=peaks)


def pool_pixels(pools: Sequence[PixelPool]) -> PixelPool:
    """Merge the pixels of several pools into one."""
    positives = np.concatenate([np.zeros(0, np.uint64), *(pool.positives for pool in pools)])
    negatives = np.concatenate([np.zeros(0, np.uint32), *(pool.negatives for pool in pools)])
    positives.sort()
    negatives.sort()
    return PixelPool(positives, negatives)


def rank_pixels(pools: Sequence[PixelPool]) -> Ranking:
    """Rank the pixels of several pools exactly. Fewer, larger pools are faster."""
    positives = np.concatenate([np.zeros(0, np.uint64), *(pool.positives for pool in pools)])
    positives.sort()  # by key, then by area, so the sum of weights does not depend on the order
    weights = 1.0 / (positives & np.uint64(0xFFFFFFFF)).astype(np.float64)
    keys = (positives >> AREA_BITS).astype(np.uint32)
    ranking = rank_scores(keys, weights, [pool.negatives for pool in pools])
    return replace(ranking, scores=key_scores(ranking.scores))
