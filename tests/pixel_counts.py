"""Counts of pixels that take one image after another: all pixels, or a histogram of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.images import PixelPool, rank_pixels, sort_pixels
from anomaly_cli.metrics.ranking import Ranking


class ExactCounts:
    """Keep all pixels, with the methods of `StreamingCounts`."""

    def __init__(self, pools: Sequence[PixelPool] = ()) -> None:
        self._pools = list(pools)

    def add(self, pixels: PixelPool) -> None:
        """Count one image whose pixels are sorted already."""
        self._pools.append(pixels)

    def merge(self, other: "ExactCounts") -> "ExactCounts":
        """Add the counts of both parts; neither part changes."""
        return ExactCounts([*self._pools, *other._pools])

    def ranking(self) -> Ranking:
        """Rank all pixels counted so far."""
        return rank_pixels(self._pools)


PixelCounts = ExactCounts | StreamingCounts


def count_image(
    counts: PixelCounts,
    anomaly_map: NDArray[np.float32],
    mask: NDArray[np.bool_],
    *,
    name: str = "the anomaly map",
) -> None:
    """Sort the pixels of one image, and count them."""
    counts.add(sort_pixels(anomaly_map, mask, name=name).pixels)
