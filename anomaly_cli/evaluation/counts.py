"""Count the pixels of one category: exactly, or in histograms of bounded size."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.names import Counting
from anomaly_cli.data.samples import GOOD, Sample
from anomaly_cli.evaluation.images import CategorySource, CountedImage
from anomaly_cli.metrics.bootstrap import ReplicateCounts, choose_edges
from anomaly_cli.metrics.confusion import Confusion, Found
from anomaly_cli.metrics.counts import StreamingCounts
from anomaly_cli.metrics.detection import PixelMetrics
from anomaly_cli.metrics.images import PixelPool, pool_pixels, rank_pixels
from anomaly_cli.metrics.keys import key_scores
from anomaly_cli.metrics.ranking import Ranking

PILOT_IMAGES = 16  # spread over the test split; the bins of the histograms are chosen from them
# Two bins per octave, for images whose scores lie outside the range of the pilot images.
_LADDER = np.arange(0, 2**32, 2**22).astype(np.uint32)

Draw = Callable[[Sequence[Sample], str], Iterator[CountedImage]]  # samples, verb of the bar


class JudgedImage(NamedTuple):
    """Results of one test image at one threshold."""

    sample: Sample
    score: float
    peak: float  # highest value of the map at its own size
    is_called: bool  # whether the peak exceeds the threshold
    typical: float  # median of its normal pixels; NaN if there are none
    pixels: Confusion
    regions: int
    missed_regions: int


def judge_image(image: CountedImage, threshold: float) -> JudgedImage:
    """Classify an image and its pixels by a threshold; nothing exceeds a threshold of NaN.

    If the detector stores a threshold, the pixels are those of its anomaly mask, whose regions end
    at the outline. Otherwise they are all pixels above `threshold`.
    """
    pixels, found = image.pixels, image.found
    if found is None:
        found = Found(pixels.confusion(threshold), pixels.missed_regions(threshold))
    negatives = image.pixels.pixels.negatives
    middle = key_scores(negatives[negatives.size // 2 :][:1])
    return JudgedImage(
        sample=image.sample,
        score=image.score,
        peak=image.peak,
        is_called=image.peak > threshold,
        typical=float(middle[0]) if middle.size else float("nan"),
        pixels=found.pixels,
        regions=pixels.region_peaks.size,
        missed_regions=found.missed_regions,
    )


class CategoryCounts(Protocol):
    """Counts of the pixels and images of one category, exact or streaming."""

    counting: Counting

    def ranking(self) -> Ranking:
        """Rank the pixels of all images."""

    def type_ranking(self, defect_type: str) -> Ranking:
        """Rank the pixels of one defect type and of the normal images."""

    def judged(self, threshold: float) -> list[JudgedImage]:
        """Classify every image by a threshold, in the order of the samples."""

    def replicates(self) -> list[PixelMetrics]:
        """Compute pixel metrics from the bins of the intervals: of all images, then of each draw.

        Returns:
            1 + R metrics for R draws; empty without draws.
        """


class ExactCategory:
    """Counts that keep all pixels.

    A normal pixel takes 4 bytes of memory and an anomalous pixel 8, and twice as much at the peak.
    """

    counting: Counting = "exact"

    def __init__(self, counted: Sequence[CountedImage], weights: NDArray[np.uint8]) -> None:
        self._counted = counted
        self._weights = weights  # (R, N)
        types = sorted({image.sample.defect_type for image in counted})
        self._pools = {name: pool_pixels(self._pixels(name)) for name in types}

    def _pixels(self, defect_type: str) -> list[PixelPool]:
        return [i.pixels.pixels for i in self._counted if i.sample.defect_type == defect_type]

    def ranking(self) -> Ranking:
        """Rank the pixels of all images."""
        return rank_pixels(list(self._pools.values()))

    def type_ranking(self, defect_type: str) -> Ranking:
        """Rank the pixels of one defect type and of the normal images."""
        return rank_pixels(
            [self._pools[k] for k in sorted({defect_type, GOOD} & self._pools.keys())]
        )

    def judged(self, threshold: float) -> list[JudgedImage]:
        """Classify every image by a threshold, in the order of the samples."""
        return [judge_image(image, threshold) for image in self._counted]

    def replicates(self) -> list[PixelMetrics]:
        """Compute pixel metrics from the bins of the intervals: of all images, then of each draw.

        Returns:
            1 + R metrics for R draws; empty without draws.
        """
        if not len(self._weights):
            return []
        pools = [image.pixels.pixels for image in self._counted]
        counts = ReplicateCounts(choose_edges(pools), replicates=len(self._weights))
        for pool, weights in zip(pools, self._weights.T, strict=True):
            counts.add(pool, weights)
        return counts.metrics()


class StreamingCategory:
    """Counts that keep histograms instead of pixels.

    Kept are a histogram for each defect type, one for each draw of the intervals, and a few numbers
    for each image. An image is classified by the stored threshold when it is counted. For another
    threshold, such as that of the best IoU, the maps are computed a second time.
    """

    counting: Counting = "streaming"

    def __init__(
        self,
        source: CategorySource,
        draw: Draw,
        weights: NDArray[np.uint8],
        edges: NDArray[np.uint32],
    ) -> None:
        self._source = source
        self._draw = draw
        self._weights = weights  # (R, N)
        self._edges = edges
        self._counts: dict[str, StreamingCounts] = {}
        self._judged: dict[int, JudgedImage] = {}  # by position of the sample
        self._judged_at = source.threshold.value
        bins = np.union1d(edges, _LADDER)
        self._replicates = ReplicateCounts(bins, replicates=len(weights)) if len(weights) else None

    def add(self, place: int, image: CountedImage) -> None:
        """Count the image of the sample at position `place`."""
        kind = image.sample.defect_type
        if kind not in self._counts:
            self._counts[kind] = StreamingCounts(edges=self._edges)
        self._counts[kind].add(image.pixels.pixels)
        if self._replicates:
            self._replicates.add(image.pixels.pixels, self._weights[:, place])
        self._judged[place] = judge_image(image, self._judged_at)

    def ranking(self) -> Ranking:
        """Rank the pixels of all images."""
        return self._merged(sorted(self._counts)).ranking()

    def type_ranking(self, defect_type: str) -> Ranking:
        """Rank the pixels of one defect type and of the normal images."""
        return self._merged(sorted({defect_type, GOOD} & self._counts.keys())).ranking()

    def _merged(self, types: Sequence[str]) -> StreamingCounts:
        merged = self._counts[types[0]]
        for name in types[1:]:
            merged = merged.merge(self._counts[name])
        return merged

    def judged(self, threshold: float) -> list[JudgedImage]:
        """Classify every image by a threshold, in the order of the samples."""
        if threshold != self._judged_at and not np.isnan(threshold):
            for place, image in enumerate(self._draw(self._source.samples, "judging")):
                self._judged[place] = judge_image(image, threshold)
            self._judged_at = threshold
        return [self._judged[place] for place in range(len(self._judged))]

    def replicates(self) -> list[PixelMetrics]:
        """Compute pixel metrics from the bins of the intervals: of all images, then of each draw.

        Returns:
            1 + R metrics for R draws; empty without draws.
        """
        return self._replicates.metrics() if self._replicates else []


def count_exactly(source: CategorySource, draw: Draw, weights: NDArray[np.uint8]) -> CategoryCounts:
    """Count the images of a category exactly, with all pixels in memory.

    Args:
        source: the test split and its maps.
        draw: computes the maps of samples and compares them with the ground truth.
        weights: how often each draw of the intervals takes each image, (R, N).
    """
    return ExactCategory(list(draw(source.samples, "evaluating")), weights)


def count_streaming(
    source: CategorySource, draw: Draw, weights: NDArray[np.uint8]
) -> CategoryCounts:
    """Count the images of a category in histograms; their size does not grow with the images.

    The bins are chosen from `PILOT_IMAGES` images of all defect types, which are counted first.

    Args:
        source: the test split and its maps.
        draw: computes the maps of samples and compares them with the ground truth.
        weights: how often each draw of the intervals takes each image, (R, N).
    """
    samples = source.samples
    pilot_places = np.linspace(0, len(samples) - 1, min(len(samples), PILOT_IMAGES)).astype(int)
    first = pilot_places.tolist()
    order = [*first, *sorted(set(range(len(samples))) - set(first))]
    images = draw([samples[place] for place in order], "evaluating")
    pilot = deque(next(images) for _ in first)
    edges = choose_edges([image.pixels.pixels for image in pilot])
    category = StreamingCategory(source, draw, weights, edges)
    for place in order:
        category.add(place, pilot.popleft() if pilot else next(images))
    next(images, None)  # completes the progress bar
    return category


COUNT = {"exact": count_exactly, "streaming": count_streaming}
