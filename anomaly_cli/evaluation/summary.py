"""Compute the metrics, intervals and tables of one category from its counts."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.config.names import Counting
from anomaly_cli.config.values import ImageScore
from anomaly_cli.data.samples import GOOD, kind_of
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.evaluation.counts import CategoryCounts, JudgedImage
from anomaly_cli.evaluation.images import CategorySource
from anomaly_cli.evaluation.intervals import judge, metric_values, resample
from anomaly_cli.evaluation.metric_names import KEYS, METRICS
from anomaly_cli.evaluation.results import (
    CategoryMetrics,
    CategoryResult,
    DefectTypeMetrics,
    ImageMetricsRow,
)
from anomaly_cli.metrics.bootstrap import Interval, percentile_interval, widen
from anomaly_cli.metrics.confusion import Confusion
from anomaly_cli.metrics.curves import detection_curves
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics

ORACLE_RULE = "oracle best IoU"
CURVE_POINTS = 200
_OPTIMA = frozenset(metric.key for metric in METRICS if metric.is_optimum)


class TableThreshold(NamedTuple):
    """The threshold of the tables per defect type and per image."""

    value: float
    rule: str
    is_stored: bool
    best_iou: float  # threshold of the best IoU, used if none is stored


def summarize(
    source: CategorySource,
    counts: CategoryCounts,
    weights: NDArray[np.uint8],
    *,
    score: ImageScore,
) -> CategoryResult:
    """Summarize the results of one category, without pictures.

    Args:
        source: the test split and its maps.
        counts: counts of the test images.
        weights: how often each draw of the intervals takes each image, (R, N).
        score: rule by which a map gives the score of its image.
    """
    ranking = counts.ranking()
    pixels = pixel_metrics(ranking)
    table = _table_threshold(source.threshold, pixels)
    images = counts.judged(table.value)
    verdicts = judge(images) if table.is_stored else None
    rates = verdicts.rates(np.ones((1, len(images)), np.uint8)) if verdicts else {}
    binned = counts.replicates()
    drawn = resample(images, weights, pixels, binned, verdicts) if binned else {}
    values = dict.fromkeys(KEYS, math.nan)
    values |= metric_values(pixels, _image_metrics(images), rates)
    ranges = _ranges(pixels)
    return CategoryResult(
        metrics=_category_metrics(
            source, images, values, table, score=score, counting=counts.counting
        ),
        ranges=ranges,
        intervals={
            name: widen(percentile_interval(draws), values[name], ranges.get(name))
            for name, draws in drawn.items()
        },
        defect_types=_defect_types(counts, images),
        images=[_image_row(image, table) for image in images],
        curves=detection_curves(ranking, max_points=CURVE_POINTS),
        replicates=drawn,
    )


def _table_threshold(stored: Threshold, pixels: PixelMetrics) -> TableThreshold:
    oracle = pixels.best_iou_threshold
    if math.isfinite(stored.value):
        return TableThreshold(stored.value, stored.rule, True, oracle)
    return TableThreshold(oracle, ORACLE_RULE, False, oracle)


def _ranges(pixels: PixelMetrics) -> dict[str, Interval]:
    """Compute the ranges that hold the exact pixel metrics.

    The low end of an optimum, such as the best IoU, is its value: a threshold with that value
    exists.
    """
    ranges = {}
    for name, bound in pixels.bounds._asdict().items():
        value = getattr(pixels, name)
        low = value if name in _OPTIMA else value - bound
        ranges[name] = Interval(max(low, 0.0), min(value + bound, 1.0))
    return ranges


def _image_metrics(images: Sequence[JudgedImage]) -> ImageMetrics:
    return image_metrics(
        np.array([image.score for image in images]),
        np.array([image.sample.is_anomalous for image in images]),
    )


def _describe_lost(source: CategorySource, images: Sequence[JudgedImage]) -> str:
    """Say how many masks mark nothing at the resolution of the comparison; empty if all do."""
    marked = [image for image in images if image.sample.is_anomalous]
    lost = sum(image.regions == 0 for image in marked)
    if not lost or not source.has_masks or source.resolution is None:
        return ""
    return (
        f"{lost} of {len(marked)} masks are so small that they mark nothing at "
        f"{source.resolution} pixels a side, and pixel metrics are without them "
        f"(--mask-resizing area keeps them)"
    )


def _category_metrics(
    source: CategorySource,
    images: Sequence[JudgedImage],
    values: Mapping[str, float],
    table: TableThreshold,
    *,
    score: ImageScore,
    counting: Counting,
) -> CategoryMetrics:
    low, high = source.threshold.rates or (math.nan, math.nan)
    return CategoryMetrics(
        category=source.category,
        kind=kind_of(source.category),
        images=len(images),
        anomalous_images=sum(image.sample.is_anomalous for image in images),
        **values,
        best_iou_threshold=table.best_iou,
        threshold=source.threshold.value,
        threshold_rule=source.threshold.rule,
        outline=source.threshold.outline,
        normal_level=source.threshold.normal_level,
        expected_rate_low=low,
        expected_rate_high=high,
        image_score=str(score),
        good=any(image.sample.defect_type == GOOD for image in images),
        map=source.map,
        resolution=source.resolution,
        regions=sum(image.regions for image in images) if source.has_masks else None,
        missed_regions=sum(image.missed_regions for image in images) if source.has_masks else None,
        table_threshold=table.value,
        table_threshold_rule=table.rule,
        model_sha256=source.model_sha256,
        maps_sha256=source.maps_sha256,
        data_sha256=source.data_sha256,
        counting=counting,
        latents=source.latents,
        lacks="; ".join(filter(None, [source.lacks, _describe_lost(source, images)])),
        mask_resizing=source.mask_resizing,
    )


def _image_row(image: JudgedImage, table: TableThreshold) -> ImageMetricsRow:
    counts = image.pixels
    size = counts.positives + counts.negatives
    has_truth = size > 0
    return ImageMetricsRow(
        image=image.sample.name,
        defect_type=image.sample.defect_type,
        score=image.score,
        is_called=image.is_called if table.is_stored else None,
        area=counts.positives / size if has_truth else math.nan,
        called_area=(counts.true_positives + counts.false_positives) / size
        if has_truth
        else math.nan,
        iou=counts.iou if counts.positives else math.nan,
        recall=counts.recall,
        regions=image.regions if has_truth else None,
        missed_regions=image.missed_regions if has_truth else None,
    )


def _defect_types(counts: CategoryCounts, images: Sequence[JudgedImage]) -> list[DefectTypeMetrics]:
    return [
        _defect_type(name, images, pixel_metrics(counts.type_ranking(name)))
        for name in sorted({image.sample.defect_type for image in images})
    ]


def _defect_type(
    name: str, images: Sequence[JudgedImage], pixels: PixelMetrics
) -> DefectTypeMetrics:
    own = [image for image in images if image.sample.defect_type == name]
    against = [image for image in images if image.sample.defect_type in {name, GOOD}]
    counts = sum((image.pixels for image in own), Confusion())
    has_truth = counts.positives + counts.negatives > 0
    areas = [
        i.pixels.positives / (i.pixels.positives + i.pixels.negatives) for i in own if has_truth
    ]
    return DefectTypeMetrics(
        defect_type=name,
        images=len(own),
        pixel_auroc=pixels.pixel_auroc,
        image_auroc=_image_metrics(against).image_auroc,
        iou=counts.iou if counts.positives else math.nan,
        recall=counts.recall,
        area=float(np.mean(areas)) if has_truth else math.nan,
        regions=sum(image.regions for image in own) if has_truth else None,
        missed_regions=sum(image.missed_regions for image in own) if has_truth else None,
        pixel_auroc_bound=pixels.bounds.pixel_auroc,
    )
