"""Confidence intervals of pixel metrics: images are drawn anew, pixels are never touched again.

Pixels of one image resemble each other, so the image is what is drawn, with replacement and
within its defect type: every replicate has as many images of each type as the test split. Each
image is reduced once to counts over at most 2,048 bins that all images share; a replicate is a
weighted sum of these counts.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics
from anomaly_cli.metrics.images import ImagePixels, PixelPool
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.ranking import Ranking

QUANTILES = 1023  # bin edges from the anomalous pixels, and as many from the normal ones
_SAMPLED_PER_QUANTILE = 16
_KEY_SHIFT = np.uint64(32)


class Interval(NamedTuple):
    """A confidence interval, or a range; NaN where undefined."""

    low: float
    high: float


class ImageHistograms(NamedTuple):
    """Counts of N images over B shared bins of ascending scores."""

    edges: NDArray[np.uint32]  # (B,) lowest key of each bin; the first is 0
    positives: NDArray[np.float64]  # (N, B) anomalous pixels
    negatives: NDArray[np.float64]  # (N, B) normal pixels
    overlap: NDArray[np.float64]  # (N, B) parts of regions; a row adds up to its regions


def draw_weights(
    strata: Sequence[str], *, replicates: int, seed: int, name: str
) -> NDArray[np.float64]:
    """How often each image is drawn, shape (R, N): with replacement, within its stratum.

    Args:
        strata: defect type of each image.
        replicates: R.
        seed: of the user.
        name: of the category; the draws of two categories are independent of each other.
    """
    generator = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "backslashreplace"))])
    weights = np.zeros((replicates, len(strata)), np.float64)
    members = np.array(strata)
    for stratum in sorted(set(strata)):
        places = np.flatnonzero(members == stratum)
        share = np.full(places.size, 1.0 / places.size)
        weights[:, places] = generator.multinomial(places.size, share, size=replicates)
    return weights


def count_bins(images: Sequence[ImagePixels]) -> ImageHistograms:
    """Reduce images to counts over bins that are fine where their pixels are many.

    The edges are quantiles of the anomalous and of the normal pixels, so that no bin holds much
    more than a thousandth of either, unless they share one score.
    """
    pools = [image.pixels for image in images]
    edges = _edges(pools)
    packed_edges = edges.astype(np.uint64) << _KEY_SHIFT
    positives, negatives, overlap = np.zeros((3, len(pools), edges.size), np.float64)
    for row, pool in enumerate(pools):
        cuts = np.append(np.searchsorted(pool.positives, packed_edges), pool.positives.size)
        shares = 1.0 / (pool.positives & np.uint64(0xFFFFFFFF)).astype(np.float64)
        gathered = np.concatenate([[0.0], np.cumsum(shares)])
        positives[row], overlap[row] = np.diff(cuts), np.diff(gathered[cuts])
        cuts = np.append(np.searchsorted(pool.negatives, edges), pool.negatives.size)
        negatives[row] = np.diff(cuts)
    return ImageHistograms(edges, positives, negatives, overlap)


def _edges(pools: Sequence[PixelPool]) -> NDArray[np.uint32]:
    positives = _quantiles([(p.positives >> _KEY_SHIFT).astype(np.uint32) for p in pools])
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


def rank_bins(histograms: ImageHistograms, weights: NDArray[np.float64]) -> Ranking:
    """Rank the bins of the images, each counted `weights` (N,) times."""
    positives, negatives, overlap = (weights @ part for part in histograms[1:])
    return _rank(histograms.edges, positives, negatives, overlap)


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


def resample_pixels(
    histograms: ImageHistograms, weights: NDArray[np.float64]
) -> list[PixelMetrics]:
    """Pixel metrics of every replicate, `weights` (R, N); off by the bounds they carry."""
    drawn = [weights @ part for part in histograms[1:]]  # three of (R, B)
    return [pixel_metrics(_rank(histograms.edges, *rows)) for rows in zip(*drawn, strict=True)]


def resample_images(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> list[ImageMetrics]:
    """Image metrics of every replicate, `weights` (R, N), exactly."""
    chosen = [np.repeat(np.arange(scores.size), row.astype(np.int64)) for row in weights]
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
