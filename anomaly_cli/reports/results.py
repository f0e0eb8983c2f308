"""What an evaluation found: one category, its defect types and images, and all of it together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.names import Counting
from anomaly_cli.data.samples import Kind
from anomaly_cli.errors import AnomalyCliError
from anomaly_cli.metrics.bootstrap import Interval, percentile_interval, widen
from anomaly_cli.metrics.curves import Curves

METRICS = (
    "pixel_auroc",
    "image_auroc",
    "aupro",
    "average_precision",
    "best_f1",
    "best_iou",
    "iou",
    "precision",
    "recall",
    "image_average_precision",
    "image_best_f1",
    "image_false_positive_rate",
    "image_recall",
)  # all in [0, 1]; NaN where undefined


# Of pixels, and so with a range where they are counted in a histogram.
RANGED = ("pixel_auroc", "aupro", "average_precision", "best_f1", "best_iou")


LOWER_IS_BETTER = frozenset({"image_false_positive_rate"})


UNDEFINED = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class CategoryMetrics:
    """One category. Metrics lie in [0, 1]; NaN is undefined."""

    category: str
    kind: Kind
    images: int
    anomalous_images: int
    pixel_auroc: float  # over all pixels of the test split, normal images included if `good` is
    image_auroc: float
    aupro: float  # false-positive rate integrated to 0.3
    average_precision: float  # of pixels
    best_f1: float  # oracle: the threshold is chosen on the test split
    best_iou: float  # oracle
    best_iou_threshold: float
    iou: float  # at the stored threshold, over all pixels of the test split
    precision: float
    recall: float
    threshold: float
    threshold_rule: str
    outline: float  # map value at which regions above it end; NaN: at the threshold itself
    normal_level: float  # they end halfway from it to their peak at the lowest; NaN: they do not
    expected_rate_low: float  # of the image_false_positive_rate, see `rates`; NaN: none is known
    expected_rate_high: float
    image_average_precision: float
    image_best_f1: float  # oracle
    image_false_positive_rate: float  # share of normal images above the stored threshold
    image_recall: float  # share of anomalous images above it
    image_score: str  # "max" of the map, or "top:SHARE", the mean of its highest values
    good: bool  # whether normal images of the test split take part
    map: str
    resolution: int | None  # side in pixels at which maps and masks were compared; None: original
    regions: int | None  # connected anomalous regions of the ground truth; None without masks
    missed_regions: int | None  # of them, without a pixel in the mask at `table_threshold`
    table_threshold: float  # of the tables per defect type and per image
    table_threshold_rule: str  # that of `threshold`, or "oracle best IoU" where there is none
    model_sha256: str | None
    maps_sha256: str | None  # names and bytes of the saved maps
    data_sha256: str  # names and bytes of what was read of the test split
    counting: Counting = "exact"  # of pixels; "streaming" leaves a range of each pixel metric
    latents: str = ""  # by the kind of drawn defect that they answer to most: "hole: z0, z3; ..."
    lacks: str = ""  # what the test split lacks for more metrics, such as masks


@dataclass(frozen=True, kw_only=True)
class DefectTypeMetrics:
    """One defect type of a category. AUROC is against the normal images and its own ground."""

    defect_type: str
    images: int
    pixel_auroc: float
    image_auroc: float
    iou: float  # at `table_threshold`, over all pixels of its images
    recall: float
    area: float  # share of pixels that is anomalous, mean over its images
    regions: int | None
    missed_regions: int | None
    pixel_auroc_bound: float = 0.0  # how far the exact one may lie to either side


@dataclass(frozen=True, kw_only=True)
class ImageMetricsRow:
    """One test image, at `table_threshold`."""

    image: str  # relative to the test folder
    defect_type: str
    score: float
    is_called: bool | None  # whether its map exceeds the stored threshold; None if there is none
    area: float  # share of pixels that is anomalous
    called_area: float  # share of pixels in the mask
    iou: float  # NaN where nothing is anomalous
    recall: float
    regions: int | None
    missed_regions: int | None


class Example(NamedTuple):
    """An image of the gallery; pictures are encoded files."""

    row: ImageMetricsRow
    image: bytes | None  # JPEG; None where the image is not at hand
    truth: bytes | None  # PNG; None where nobody has drawn one
    heatmap: bytes  # JPEG
    mask: bytes  # PNG


@dataclass(frozen=True, kw_only=True)
class CategoryResult:
    """All that a report says about one category."""

    metrics: CategoryMetrics
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # by name of the metric
    ranges: Mapping[str, Interval] = field(default_factory=dict)  # where the exact metric lies
    defect_types: Sequence[DefectTypeMetrics] = ()
    images: Sequence[ImageMetricsRow] = ()
    curves: Curves | None = None
    misses: Sequence[Example] = ()  # worst first
    false_alarms: Sequence[Example] = ()
    replicates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def range(self, metric: str) -> Interval:
        """Where the exact metric lies: at its value, unless it was counted in a histogram."""
        value = getattr(self.metrics, metric)
        return self.ranges.get(metric, Interval(value, value))


class Gate(NamedTuple):
    """A bar that the user set, and what became of it."""

    category: str  # or the name of a group of means
    metric: str
    value: float  # NaN never passes
    interval: Interval
    bar: float  # the value must be at least this
    baseline: float | None  # value of the older report, for a bar on the drop
    baseline_interval: Interval
    is_met: bool
    at_least: float  # low end of what the value may be; the value itself where it is exact
    baseline_at_most: float | None  # high end of the older value


class Failure(NamedTuple):
    """A category that could not be evaluated."""

    category: str
    kind: Kind
    error: AnomalyCliError


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All categories of one evaluation, and all that produced them."""

    results: tuple[CategoryResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values
    versions: Mapping[str, str] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def rows(self) -> list[CategoryMetrics]:
        """The metrics of each category."""
        return [result.metrics for result in self.results]

    @property
    def is_streaming(self) -> bool:
        """Whether pixel metrics have ranges."""
        return any(row.counting == "streaming" for row in self.rows)

    def means(self) -> dict[str, dict[str, float]]:
        """Mean of each metric over textures, objects and all; undefined values are left out."""
        return {
            name: {
                metric: _mean([getattr(result.metrics, metric) for result in results])
                for metric in METRICS
            }
            for name, results in self._groups().items()
        }

    def mean_ranges(self) -> dict[str, dict[str, Interval]]:
        """Where the exact means of pixel metrics lie."""
        return {
            name: {metric: _mean_range(results, metric) for metric in RANGED}
            for name, results in self._groups().items()
        }

    def mean_intervals(self) -> dict[str, dict[str, Interval]]:
        """Intervals of these means; the test images of one category say nothing of another's."""
        means, ranges = self.means(), self.mean_ranges()
        return {
            name: {
                metric: widen(
                    percentile_interval(_mean_replicates(results, metric)),
                    means[name][metric],
                    ranges[name].get(metric),
                )
                for metric in METRICS
            }
            for name, results in self._groups().items()
            if all(result.replicates for result in results)
        }

    def incomplete_groups(self) -> set[str]:
        """Groups of means that miss a category because it failed."""
        kinds = {failure.kind for failure in self.failures}
        return {f"{kind}s" for kind in kinds} | ({"all"} if kinds else set())

    def _groups(self) -> dict[str, list[CategoryResult]]:
        groups = {
            "textures": [r for r in self.results if r.metrics.kind == "texture"],
            "objects": [r for r in self.results if r.metrics.kind == "object"],
            "all": list(self.results),
        }
        return {name: results for name, results in groups.items() if results}


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _mean_range(results: Sequence[CategoryResult], metric: str) -> Interval:
    ranges = [result.range(metric) for result in results]
    return Interval(_mean([ends.low for ends in ranges]), _mean([ends.high for ends in ranges]))


def _mean_replicates(results: Sequence[CategoryResult], metric: str) -> NDArray[np.float64]:
    values = [
        result.replicates[metric]
        for result in results
        if math.isfinite(getattr(result.metrics, metric)) and metric in result.replicates
    ]
    return np.mean(values, axis=0) if values else np.zeros(0)
