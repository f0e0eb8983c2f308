"""Histogram of the pixels of a test set, to rank them in constant memory.

Images are added one by one, and histograms are merged in any order. The metrics include bounds of
the error that binning may cause. `metrics.images.rank_pixels` keeps all pixels and is exact.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.images import AREA_BITS, PixelPool
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.ranking import Ranking, run_starts

# A region consists of this many shares: sums of integers are exact in any order.
_SHARES_PER_REGION = 2**36


class _Row(IntEnum):
    POSITIVES = 0
    NEGATIVES = 1
    SHARES = 2  # of regions, for their overlap


@dataclass(eq=False)
class StreamingCounts:
    """Histogram over the upper bits of the keys, for any number of images in constant memory.

    The upper bits are the sign, the exponent and the first bits of the mantissa, so bins are as
    fine for small scores as for large ones: with 20 bits, two scores in one bin differ by less
    than 0.05%. `edges` divide bins that many anomalous and normal pixels share, such as scores
    just below 1. A bin with one score only, such as 0 after a ReLU, is a tie, which is exact.
    Memory is 32 bytes for each of the 2**bits bins: 32 MiB with 20 bits.
    """

    bits: int = 20  # upper bits of the key that select the bin, 8 to 24; more give smaller bounds
    # (E,) keys, ascending, at which further bins begin
    edges: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32), repr=False)
    histogram: NDArray[np.int64] = field(init=False, repr=False)  # (3, 2**bits + E), see _Row
    lowest: NDArray[np.uint32] = field(init=False, repr=False)  # (2**bits + E,) key in each bin
    highest: NDArray[np.uint32] = field(init=False, repr=False)  # (2**bits + E,) key in each bin

    def __post_init__(self) -> None:
        """Refuse a number of bits that is out of range."""
        if not 8 <= self.bits <= 24:
            raise ValueError(f"bits must be 8 to 24, got {self.bits}")
        bins = 2**self.bits + self.edges.size
        self.histogram = np.zeros((len(_Row), bins), np.int64)
        self.lowest = np.full(bins, 2**32 - 1, np.uint32)
        self.highest = np.zeros(bins, np.uint32)

    def add(self, pixels: PixelPool) -> None:
        """Count the sorted pixels of one image."""
        keys = (pixels.positives >> AREA_BITS).astype(np.uint32)
        areas = (pixels.positives & np.uint64(0xFFFFFFFF)).astype(np.int64)
        self._count(_Row.POSITIVES, keys)
        self._count(_Row.NEGATIVES, pixels.negatives)
        if keys.size:
            bins = self._bins(keys)
            starts = run_starts(bins)
            self.histogram[_Row.SHARES, bins[starts]] += np.add.reduceat(
                _region_shares(areas), starts
            )

    def _bins(self, ascending: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Find the bin of each key: the number of edges of either kind at or below it."""
        bins = (ascending >> np.uint32(32 - self.bits)).astype(np.int64)
        passed = np.searchsorted(ascending, self.edges)
        return bins + np.cumsum(np.bincount(passed, minlength=bins.size + 1)[:-1])

    def _count(self, row: _Row, ascending: NDArray[np.uint32]) -> None:
        if ascending.size == 0:
            return
        bins = self._bins(ascending)
        starts = run_starts(bins)
        ends = np.append(starts[1:], bins.size)
        used = bins[starts]  # each once, so that plain indexing adds up
        self.histogram[row, used] += ends - starts
        self.lowest[used] = np.minimum(self.lowest[used], ascending[starts])
        self.highest[used] = np.maximum(self.highest[used], ascending[ends - 1])

    def merge(self, other: "StreamingCounts") -> "StreamingCounts":
        """Add the counts of two parts; neither part changes.

        Raises:
            ValueError: the parts have different bins.
        """
        if self.bits != other.bits or not np.array_equal(self.edges, other.edges):
            raise ValueError(
                f"cannot merge counts of {self.bits} and {other.bits} bits, or of other edges"
            )
        merged = StreamingCounts(self.bits, self.edges)
        np.add(self.histogram, other.histogram, out=merged.histogram)
        np.minimum(self.lowest, other.lowest, out=merged.lowest)
        np.maximum(self.highest, other.highest, out=merged.highest)
        return merged

    def ranking(self) -> Ranking:
        """Rank the bins that hold positives."""
        positives, negatives, shares = self.histogram
        bins = np.flatnonzero(positives)[::-1]
        at_or_above = np.cumsum(negatives[::-1])[::-1][bins]
        gathered = np.cumsum(shares[bins])
        return Ranking(
            scores=key_scores(self.lowest[bins]),
            true_positives=np.cumsum(positives[bins]),
            false_positives=at_or_above,
            false_positives_before=at_or_above - negatives[bins],
            overlap=gathered / gathered[-1:],
            is_tie=self.lowest[bins] == self.highest[bins],
            positives=int(positives.sum()),
            negatives=int(negatives.sum()),
        )


def _region_shares(areas: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute the shares of each anomalous pixel in its region, shape (P,).

    The shares of a region add up to `_SHARES_PER_REGION`. They are assigned in the order of the
    scores, over all regions of one area: their sum below a threshold is then never off by more
    than half a share, however large the regions are.

    Args:
        areas: of the region of each pixel of one image, by ascending score, shape (P,).
    """
    order = np.argsort(areas, kind="stable")
    grouped = areas[order]
    starts = run_starts(grouped)
    rank = np.arange(areas.size) - np.repeat(starts, np.diff(starts, append=areas.size))
    ends = np.rint((rank + 1) / grouped * _SHARES_PER_REGION)
    begins = np.rint(rank / grouped * _SHARES_PER_REGION)
    shares = np.empty(areas.size, np.int64)
    shares[order] = (ends - begins).astype(np.int64)
    return shares
