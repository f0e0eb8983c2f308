"""Confidence intervals of pixel metrics: images are drawn anew, pixels are never touched again.

Pixels of one image resemble each other, so the image is what is drawn, with replacement and
within its defect type: every replicate has as many images of each type as the test split. Each
image is reduced once to counts over bins that all images share; a replicate is a weighted sum of
these counts.
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
    """A confidence interval, or a range; NaN where undefined."""

    low: float
    high: float


def draw_weights(
    strata: Sequence[str], *, replicates: int, seed: int, name: str
) -> NDArray[np.uint8]:
    """How often each image is drawn, shape (R, N): with replacement, within its stratum.

    One byte each, because this is all that a draw costs for every further image. A count above
    255, of a mean of 1, is less likely than 1e-500.

    Args:
        strata: defect type of each image.
        replicates: R.
        seed: of the user.
        name: of the category; the draws of two categories are independent of each other.
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
    """Few replicates at a time: the wide numbers of a step do not add up."""
    return (slice(first, first + _BLOCK) for first in range(0, replicates, _BLOCK))


def weigh(weights: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of the values (N, K) over the images, each counted `weights` (R, N) times: (R, K)."""
    sums = np.zeros((len(weights), values.shape[1]), np.float64)
    for block in _blocks(len(weights)):
        sums[block] = weights[block].astype(np.float64) @ values
    return sums


def choose_edges(pools: Sequence[PixelPool]) -> NDArray[np.uint32]:
    """Lowest keys of bins that are fine where the pixels are many, shape (B,); the first is 0.

    The edges are quantiles of the anomalous and of the normal pixels, so that no bin holds much
    more than a thousandth of either, unless they share one score.
    """
    positives = _quantiles([(p.positives >> AREA_BITS).astype(np.uint32) for p in pools])
    negatives = _quantiles([pool.negatives for pool in pools])
    return np.unique(np.concatenate([np.zeros(1, np.uint32), positives, negatives]))


def _quantiles(keys: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """At most QUANTILES keys, evenly spaced by rank in all (each ascending) together."""
    stride = max(1, sum(part.size for part in keys) // (QUANTILES * _SAMPLED_PER_QUANTILE))
    sample = np.sort(np.concatenate([part[stride // 2 :: stride] for part in keys]))
    ranks = np.linspace(0, sample.size - 1, min(QUANTILES, sample.size)).astype(np.int64)
    chosen = sample[ranks]
    is_repeated = chosen[1:] == chosen[:-1]
    # A score that many pixels share, such as 0 after a rectifier, gets a bin of its own.
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
    """Counts of R draws of the images over B shared bins, fed image by image.

    Each image is a row of counts for a moment only: memory is 24 bytes for each bin of each draw,
    49 MB for 1,000 draws over 2,047 bins, and does not depend on the number of images.
    """

    def __init__(self, edges: NDArray[np.uint32], *, replicates: int) -> None:
        self.edges = edges
        # Anomalous pixels, normal pixels, parts of regions; the first row has every image once.
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
        """Of all images, then of each draw; off by at most the bounds they carry."""
        self._flush()
        return [pixel_metrics(_rank(self.edges, *rows)) for rows in zip(*self._sums, strict=True)]


def _bin_pixels(pixels: PixelPool, edges: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Anomalous pixels, normal pixels and parts of regions of one image in each bin, (3, B)."""
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
    """Image metrics of every replicate, `weights` (R, N), exactly."""
    chosen = (np.repeat(np.arange(scores.size), row.astype(np.int64)) for row in weights)
    return [image_metrics(scores[places], labels[places]) for places in chosen]


def percentile_interval(
    replicates: NDArray[np.float64], *, shift: float = 0.0, level: float = 0.95
) -> Interval:
    """Percentile interval of a metric in [0, 1]; NaN if no replicate defines it.

    Args:
        replicates: values, shape (R,); undefined ones are left out.
        shift: added to all: the exact metric minus that of the bins, both of the whole split.
        level: share of the replicates between the ends.
    """
    defined = replicates[np.isfinite(replicates)] + shift
    if defined.size == 0 or not math.isfinite(shift):
        return Interval(math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0)))


def widen(interval: Interval, value: float, exact: Interval | None) -> Interval:
    """The interval of a value, moved outward by how far the exact one may lie from it."""
    if exact is None or not math.isfinite(value) or not math.isfinite(interval.low):
        return interval
    low, high = interval.low - (value - exact.low), interval.high + (exact.high - value)
    return Interval(max(low, 0.0), min(high, 1.0))
