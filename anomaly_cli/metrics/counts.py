"""Counts of the pixels of a test set: fed image by image, merged in any order, then ranked.

`ExactCounts` keeps 4 bytes of every normal and 8 of every anomalous pixel. `StreamingCounts`
keeps a histogram whose size does not depend on the number of images; what the metrics may then
be off by is part of their result. Both are unchanged by strictly increasing maps of the scores
as far as the ranking is (the histogram: up to its stated bound).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.images import AREA_BITS, PixelPool, sort_pixels
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.pixels import check_pixels, find_regions, split_pixels
from anomaly_cli.metrics.ranking import Ranking, rank_scores, run_starts

# Long runs need fewer searches for every positive; 16 MiB beside the keys is little.
_RUN_LENGTH = 2**22
# One region is this many shares, so that histograms of regions add up exactly, in any order.
_SHARES_PER_REGION = 2**36


class _Row(IntEnum):
    POSITIVES = 0
    NEGATIVES = 1
    SHARES = 2  # of regions, for their overlap


class PixelCounts(Protocol):
    """What every kind of counts offers."""

    def update(
        self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], *, name: str = ...
    ) -> None:
        """Count one image."""

    def merge(self, other: Self) -> Self:
        """Counts of both parts together; neither part changes."""

    def ranking(self) -> Ranking:
        """Rank all pixels counted so far."""


@dataclass(eq=False)
class ExactCounts:
    """Keys of all pixels, for exact metrics. One array for each image."""

    positives: list[NDArray[np.uint64]] = field(default_factory=list)  # key << 32 | region's area
    negatives: list[NDArray[np.uint32]] = field(default_factory=list)  # keys

    def update(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_],
        *,
        name: str = "the anomaly map",
    ) -> None:
        """Count one image.

        Args:
            anomaly_map: scores, shape (H, W) float32; infinite ones are allowed.
            mask: ground truth, shape (H, W) bool.
            name: what an error message calls the map, such as its file.

        Raises:
            DataError: NaN among the scores, no pixels, or shapes that differ.
        """
        check_pixels(anomaly_map, mask, name=name)
        keys = split_pixels(anomaly_map, mask)
        regions = find_regions(mask)
        areas = regions.areas[regions.labels].astype(np.uint64)
        self.positives.append(keys.positive.astype(np.uint64) << AREA_BITS | areas)
        self.negatives.append(keys.negative)

    def merge(self, other: "ExactCounts") -> "ExactCounts":
        """Counts of both parts together; neither part changes, and the keys are not copied."""
        return ExactCounts(self.positives + other.positives, self.negatives + other.negatives)

    def ranking(self) -> Ranking:
        """Rank all pixels counted so far."""
        packed = np.concatenate([np.zeros(0, np.uint64), *self.positives])
        packed.sort()  # by key, then by area: the same sum of weights in any order of images
        keys = (packed >> AREA_BITS).astype(np.uint32)
        areas = (packed & np.uint64(0xFFFFFFFF)).astype(np.float64)
        ranking = rank_scores(keys, 1.0 / areas, _sorted_runs(self.negatives))
        return replace(ranking, scores=key_scores(ranking.scores))


def _sorted_runs(pieces: Iterable[NDArray[np.uint32]]) -> Iterator[NDArray[np.uint32]]:
    pending: list[NDArray[np.uint32]] = []
    length = 0
    for piece in pieces:
        pending.append(piece)
        length += piece.size
        if length >= _RUN_LENGTH:
            yield _sorted(pending)
            pending, length = [], 0
    if pending:
        yield _sorted(pending)


def _sorted(pieces: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    run = np.concatenate(pieces)
    run.sort()
    return run


@dataclass(eq=False)
class StreamingCounts:
    """Histogram over the upper bits of the keys, for any number of images in constant memory.

    The upper bits are sign, exponent and the head of the mantissa, so bins are as fine for small
    scores as for large ones: with 20 bits, two scores in one bin differ by less than 0.05%. Where
    many pixels of both classes share a bin, such as scores close below 1, `edges` cut it further.
    A bin that has seen one score only, such as 0 after a rectifier, counts as a tie, exactly.
    Memory is 32 bytes for each of the 2**bits bins: 32 MiB with 20 bits.
    """

    bits: int = 20  # upper bits of the key that choose the bin, 8 to 24; more, smaller bounds
    # (E,) keys, ascending, at which another bin begins
    edges: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32), repr=False)
    histogram: NDArray[np.int64] = field(init=False, repr=False)  # (3, 2**bits + E), see _Row
    lowest: NDArray[np.uint32] = field(init=False, repr=False)  # (2**bits + E,) key seen in a bin
    highest: NDArray[np.uint32] = field(init=False, repr=False)  # (2**bits + E,)

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        if not 8 <= self.bits <= 24:
            raise ValueError(f"bits must be 8 to 24, got {self.bits}")
        bins = 2**self.bits + self.edges.size
        self.histogram = np.zeros((len(_Row), bins), np.int64)
        self.lowest = np.full(bins, 2**32 - 1, np.uint32)
        self.highest = np.zeros(bins, np.uint32)

    def update(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_],
        *,
        name: str = "the anomaly map",
    ) -> None:
        """Count one image. Arguments and errors are those of `ExactCounts.update`."""
        self.add(sort_pixels(anomaly_map, mask, name=name).pixels)

    def add(self, pixels: PixelPool) -> None:
        """Count one image whose pixels are sorted already."""
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
        """Bin of each key: how many edges of either kind lie at or below it."""
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
        """Counts of both parts together; neither part changes.

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
    """Shares of each anomalous pixel, shape (P,); those of a region add up to a whole.

    Handed out in the order of the scores, among all regions of one area: what lies below a
    threshold is then never off by more than half a share, however large these regions.

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
