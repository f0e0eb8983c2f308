"""Confidence intervals of metrics, from replicates of the test split (bootstrap).

Pixels of one image resemble each other, so whole images are drawn, with replacement and within
their defect type: every replicate has as many images of each type as the test split. The pixels of
each image are counted once, in bins that all images share. A replicate is a weighted sum of these
counts.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics
from anomaly_cli.metrics.images import AREA_BITS, PixelPool
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.ranking import Ranking

QUANTILES = 1023  # bin edges from the anomalous pixels, and as many from the normal ones
_SAMPLED_PER_QUANTILE = 16
_BLOCK = 128  # replicates at a time
_IMAGES_AT_A_TIME = 64


class Interval(NamedTuple):
    """Confidence interval, or range; NaN where undefined."""

    low: float
    high: float


def draw_weights(
    strata: Sequence[str], *, replicates: int, seed: int, name: str
) -> NDArray[np.uint8]:
    """Draw images with replacement within their stratum, for each replicate.

    Args:
        strata: defect type of each image.
        replicates: number R of replicates.
        seed: chosen by the user.
        name: of the category; the draws of two categories are independent of each other.

    Returns:
        How often each image is drawn, shape (R, N). One byte each keeps the memory for many images
        small. The mean is 1, and a count above 255 is less likely than 1e-500.
    """
    generator = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "backslashreplace"))])
    weights = np.zeros((replicates, len(strata)), np.uint8)
    members = np.array(strata)
    for stratum in sorted(set(strata)):
        places = np.flatnonzero(members == stratum)
        share = np.full(places.size, 1.0 / places.size)
        for block in _blocks(replicates):
            weights[block, places] = generator.multinomial(
                places.size, share, size=len(weights[block])
            )
    return weights


def _blocks(replicates: int) -> Iterator[slice]:
    """Split the replicates into slices of `_BLOCK`, so that arrays of float64 stay small."""
    return (slice(first, first + _BLOCK) for first in range(0, replicates, _BLOCK))


def weigh(weights: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum values (N, K) over the images, each counted `weights` (R, N) times: (R, K)."""
    sums = np.zeros((len(weights), values.shape[1]), np.float64)
    for block in _blocks(len(weights)):
        sums[block] = weights[block].astype(np.float64) @ values
    return sums


def choose_edges(pools: Sequence[PixelPool]) -> NDArray[np.uint32]:
    """Choose the edges of bins that are narrow where pixels are many.

    The edges are quantiles of the anomalous and of the normal pixels, so no bin holds much more
    than a thousandth of either, unless they share one score.

    Returns:
        Lowest key of each bin, ascending from 0, shape (B,).
    """
    positives = _quantiles([(p.positives >> AREA_BITS).astype(np.uint32) for p in pools])
    negatives = _quantiles([pool.negatives for pool in pools])
    return np.unique(np.concatenate([np.zeros(1, np.uint32), positives, negatives]))


def _quantiles(keys: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Choose at most QUANTILES keys, evenly spaced by rank among all; each part is ascending."""
    stride = max(1, sum(part.size for part in keys) // (QUANTILES * _SAMPLED_PER_QUANTILE))
    sample = np.sort(np.concatenate([part[stride // 2 :: stride] for part in keys]))
    ranks = np.linspace(0, sample.size - 1, min(QUANTILES, sample.size)).astype(np.int64)
    chosen = sample[ranks]
    is_repeated = chosen[1:] == chosen[:-1]
    # A score that many pixels share, such as 0 after a ReLU, gets a bin of its own.
    ends = chosen[1:][is_repeated] + np.uint32(1)
    return np.unique(np.concatenate([chosen, ends]))


def _rank(
    edges: NDArray[np.uint32],
    positives: NDArray[np.float64],
    negatives: NDArray[np.float64],
    overlap: NDArray[np.float64],
) -> Ranking:
    bins = np.flatnonzero(positives)[::-1]
    at_or_above = np.cumsum(negatives[::-1])[::-1][bins].astype(np.int64)
    gathered = np.cumsum(overlap[bins])
    widths = np.diff(edges, append=edges[-1:])
    return Ranking(
        scores=key_scores(edges[bins]),
        true_positives=np.cumsum(positives[bins]).astype(np.int64),
        false_positives=at_or_above,
        false_positives_before=at_or_above - negatives[bins].astype(np.int64),
        overlap=gathered / gathered[-1:],
        is_tie=widths[bins] == 1,
        positives=int(positives.sum()),
        negatives=int(negatives.sum()),
    )


class ReplicateCounts:
    """Counts of R replicates over B shared bins, to which images are added one by one.

    The counts of single images are not kept. Memory is 24 bytes for each bin of each replicate,
    49 MB for 1,000 replicates over 2,047 bins, and does not depend on the number of images.
    """

    def __init__(self, edges: NDArray[np.uint32], *, replicates: int) -> None:
        self.edges = edges
        # Anomalous pixels, normal pixels and parts of regions. Row 0 counts every image once.
        self._sums = np.zeros((3, 1 + replicates, edges.size), np.float64)
        self._pending: list[tuple[NDArray[np.uint8], NDArray[np.float64]]] = []

    def add(self, pixels: PixelPool, weights: NDArray[np.uint8]) -> None:
        """Count one image `weights` (R,) times."""
        self._pending.append((np.append(np.uint8(1), weights), _bin_pixels(pixels, self.edges)))
        if len(self._pending) >= _IMAGES_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        weights = np.stack([weight for weight, _counts in self._pending], axis=1)
        counts = np.stack([count for _weight, count in self._pending], axis=1)  # (3, n, B)
        for sums, part in zip(self._sums, counts, strict=True):
            for block in _blocks(len(sums)):
                sums[block] += weights[block].astype(np.float64) @ part
        self._pending = []

    def metrics(self) -> list[PixelMetrics]:
        """Compute the metrics of all images, then of each replicate.

        The exact values differ from them by at most their bounds.
        """
        self._flush()
        return [pixel_metrics(_rank(self.edges, *rows)) for rows in zip(*self._sums, strict=True)]


def _bin_pixels(pixels: PixelPool, edges: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Count anomalous pixels, normal pixels and parts of regions in each bin: (3, B)."""
    cuts = np.append(
        np.searchsorted(pixels.positives, edges.astype(np.uint64) << AREA_BITS),
        pixels.positives.size,
    )
    shares = 1.0 / (pixels.positives & np.uint64(0xFFFFFFFF)).astype(np.float64)
    gathered = np.concatenate([[0.0], np.cumsum(shares)])
    negatives = np.append(np.searchsorted(pixels.negatives, edges), pixels.negatives.size)
    return np.stack([np.diff(cuts), np.diff(gathered[cuts]), np.diff(negatives)])[[0, 2, 1]]


def resample_images(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> list[ImageMetrics]:
    """Compute the exact image metrics of every replicate.

    Args:
        scores: anomaly scores, shape (N,).
        labels: whether each image is anomalous, shape (N,).
        weights: how often each image is drawn, shape (R, N).
    """
    chosen = (np.repeat(np.arange(scores.size), row.astype(np.int64)) for row in weights)
    return [image_metrics(scores[places], labels[places]) for places in chosen]


def percentile_interval(
    replicates: NDArray[np.float64], *, shift: float = 0.0, level: float = 0.95
) -> Interval:
    """Compute the percentile interval of a metric in [0, 1]; NaN if no replicate defines it.

    Args:
        replicates: values, shape (R,); undefined ones are left out.
        shift: added to all values: the exact metric minus that of the bins, for the whole split.
        level: share of the replicates inside the interval.
    """
    defined = replicates[np.isfinite(replicates)] + shift
    if defined.size == 0 or not math.isfinite(shift):
        return Interval(math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0)))


def widen(interval: Interval, value: float, exact: Interval | None) -> Interval:
    """Widen the interval of a value by the distances to the ends of the range of its exact value.

    Args:
        interval: confidence interval of the value.
        value: known up to a range.
        exact: range that holds the exact value; None leaves the interval as it is.
    """
    if exact is None or not math.isfinite(value) or not math.isfinite(interval.low):
        return interval
    low, high = interval.low - (value - exact.low), interval.high + (exact.high - value)
    return Interval(max(low, 0.0), min(high, 1.0))
