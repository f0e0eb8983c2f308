"""Results of an evaluation: of each image, defect type and category, and all together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.names import Counting, MaskResizing
from anomaly_cli.data.samples import Kind
from anomaly_cli.errors import AnomalyCliError
from anomaly_cli.evaluation.metric_names import KEYS, RANGED
from anomaly_cli.metrics.bootstrap import Interval, percentile_interval, widen
from anomaly_cli.metrics.curves import Curves

UNDEFINED = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class CategoryMetrics:
    """Metrics of one category; each in [0, 1], NaN where undefined."""

    category: str
    kind: Kind
    images: int
    anomalous_images: int
    pixel_auroc: float  # over all pixels of the test split; normal images are included if `good`
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
    outline: float  # map value at which anomalous regions end; NaN: at the threshold
    normal_level: float  # regions also end halfway from it to their peak; NaN: only at the outline
    expected_rate_low: float  # of `image_false_positive_rate` on new images; NaN: not known
    expected_rate_high: float
    image_average_precision: float
    image_best_f1: float  # oracle
    image_false_positive_rate: float  # share of normal images above the stored threshold
    image_recall: float  # share of anomalous images above it
    image_score: str  # "max" of the map, or "top:SHARE", the mean of its highest values
    good: bool  # whether normal images of the test split are included
    map: str
    resolution: int | None  # side in pixels at which maps and masks were compared; None: original
    regions: int | None  # connected anomalous regions of the ground truth; None without masks
    missed_regions: int | None  # regions without a pixel in the mask at `table_threshold`
    table_threshold: float  # of the tables per defect type and per image
    table_threshold_rule: str  # rule of `threshold`, or "oracle best IoU" if there is none
    model_sha256: str | None
    maps_sha256: str | None  # names and bytes of the saved maps
    data_sha256: str  # names and bytes of the test files that were read
    counting: Counting = "exact"  # "streaming" gives only a range of each pixel metric
    latents: str = ""  # by the synthetic defect they respond to most: "hole: z0, z3; ..."
    lacks: str = ""  # what is missing for further metrics, such as masks
    mask_resizing: MaskResizing = "nearest"  # of masks that were compared at `resolution`


@dataclass(frozen=True, kw_only=True)
class DefectTypeMetrics:
    """Metrics of one defect type of a category; NaN where undefined.

    Image AUROC compares the images of this type with the normal images. Pixel AUROC compares the
    anomalous pixels of this type with all normal pixels of both.
    """

    defect_type: str
    images: int
    pixel_auroc: float
    image_auroc: float
    iou: float  # at `table_threshold`, over all pixels of its images
    recall: float
    area: float  # share of pixels that are anomalous, mean over its images
    regions: int | None
    missed_regions: int | None
    pixel_auroc_bound: float = 0.0  # largest difference from the exact value


@dataclass(frozen=True, kw_only=True)
class ImageMetricsRow:
    """Metrics of one test image at `table_threshold`; NaN where undefined."""

    image: str  # relative to the test folder
    defect_type: str
    score: float
    is_called: bool | None  # whether its map exceeds the stored threshold; None if none is stored
    area: float  # share of pixels that are anomalous
    called_area: float  # share of pixels in the anomaly mask
    iou: float  # NaN without anomalous pixels
    recall: float
    regions: int | None
    missed_regions: int | None


class Example(NamedTuple):
    """One image of the gallery, with its pictures as encoded files."""

    row: ImageMetricsRow
    image: bytes | None  # JPEG; None if the image is missing
    truth: bytes | None  # PNG; None if there is no mask
    heatmap: bytes  # JPEG
    mask: bytes  # PNG


@dataclass(frozen=True, kw_only=True)
class CategoryResult:
    """Everything that a report shows about one category."""

    metrics: CategoryMetrics
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # by name of the metric
    ranges: Mapping[str, Interval] = field(default_factory=dict)  # that hold the exact metric
    defect_types: Sequence[DefectTypeMetrics] = ()
    images: Sequence[ImageMetricsRow] = ()
    curves: Curves | None = None
    misses: Sequence[Example] = ()  # worst first
    false_alarms: Sequence[Example] = ()
    replicates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def range(self, metric: str) -> Interval:
        """Look up the range that holds the exact metric; one point if it is known exactly."""
        value = getattr(self.metrics, metric)
        return self.ranges.get(metric, Interval(value, value))


class Gate(NamedTuple):
    """The result of one bar: a metric, its required minimum, and whether it is met."""

    category: str  # or a group of categories, for its mean
    metric: str
    value: float  # NaN never passes
    interval: Interval
    bar: float  # the value must be at least this
    baseline: float | None  # value in the older report, if the bar limits the drop
    baseline_interval: Interval
    is_met: bool
    at_least: float  # low end of the range of the value; the value itself if exact
    baseline_at_most: float | None  # high end of the range of the older value


class Failure(NamedTuple):
    """A category that could not be evaluated."""

    category: str
    kind: Kind
    error: AnomalyCliError


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Results of all categories of one evaluation, with settings and versions."""

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
        """Whether pixels were counted in histograms, so that pixel metrics have ranges."""
        return any(row.counting == "streaming" for row in self.rows)

    def means(self) -> dict[str, dict[str, float]]:
        """Average each metric over textures, objects and all; undefined values are left out."""
        return {
            name: {
                metric: mean([getattr(result.metrics, metric) for result in results])
                for metric in KEYS
            }
            for name, results in self._groups().items()
        }

    def mean_ranges(self) -> dict[str, dict[str, Interval]]:
        """Compute ranges that hold the exact means of the pixel metrics, by group and metric."""
        return {
            name: {metric: _mean_range(results, metric) for metric in RANGED}
            for name, results in self._groups().items()
        }

    def mean_intervals(self) -> dict[str, dict[str, Interval]]:
        """Compute confidence intervals of the means, by group and metric.

        The test images of each category are drawn independently. A group is left out if one of its
        categories has no draws.
        """
        means, ranges = self.means(), self.mean_ranges()
        return {
            name: {
                metric: widen(
                    percentile_interval(_mean_replicates(results, metric)),
                    means[name][metric],
                    ranges[name].get(metric),
                )
                for metric in KEYS
            }
            for name, results in self._groups().items()
            if all(result.replicates for result in results)
        }

    def incomplete_groups(self) -> set[str]:
        """List the groups whose means lack a category because it failed."""
        kinds = {failure.kind for failure in self.failures}
        return {f"{kind}s" for kind in kinds} | ({"all"} if kinds else set())

    def _groups(self) -> dict[str, list[CategoryResult]]:
        groups = {
            "textures": [r for r in self.results if r.metrics.kind == "texture"],
            "objects": [r for r in self.results if r.metrics.kind == "object"],
            "all": list(self.results),
        }
        return {name: results for name, results in groups.items() if results}


def mean(values: Sequence[float]) -> float:
    """Average the values that are finite; NaN if there is none."""
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _mean_range(results: Sequence[CategoryResult], metric: str) -> Interval:
    ranges = [result.range(metric) for result in results]
    return Interval(mean([ends.low for ends in ranges]), mean([ends.high for ends in ranges]))


def _mean_replicates(results: Sequence[CategoryResult], metric: str) -> NDArray[np.float64]:
    values = [
        result.replicates[metric]
        for result in results
        if math.isfinite(getattr(result.metrics, metric)) and metric in result.replicates
    ]
    return np.mean(values, axis=0) if values else np.zeros(0)
