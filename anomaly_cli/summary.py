"""Counted images of one category -> its metrics, intervals, and tables per defect and image."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from anomaly_cli.data.mvtec import GOOD, TEXTURES
from anomaly_cli.evaluation import CategorySource, CountedImage
from anomaly_cli.metrics.bootstrap import percentile_interval
from anomaly_cli.metrics.confusion import Confusion
from anomaly_cli.metrics.curves import detection_curves
from anomaly_cli.metrics.detection import ImageMetrics, PixelMetrics, image_metrics, pixel_metrics
from anomaly_cli.metrics.images import PixelPool, pool_pixels, rank_pixels
from anomaly_cli.reports.results import (
    METRICS,
    CategoryMetrics,
    CategoryResult,
    DefectTypeMetrics,
    ImageMetricsRow,
)
from anomaly_cli.resampling import judge, metric_values, resample
from anomaly_cli.scores import ImageScore

ORACLE_RULE = "oracle best IoU"
CURVE_POINTS = 200


def summarize(
    source: CategorySource,
    counted: Sequence[CountedImage],
    *,
    score: ImageScore,
    replicates: int,
    seed: int,
) -> CategoryResult:
    """All that is known about a category, without pictures.

    Args:
        source: of the maps.
        counted: the images of its test split.
        score: how a map became the score of its image.
        replicates: draws of the images behind the intervals; 0 for none.
        seed: of these draws.
    """
    pools = _pools(counted)
    ranking = rank_pixels(list(pools.values()))
    pixels, images = pixel_metrics(ranking), _image_metrics(counted)
    threshold = source.threshold.value
    has_threshold = math.isfinite(threshold)
    verdicts = judge(counted, threshold) if has_threshold else None
    rates = verdicts.rates(np.ones((1, len(counted)))) if verdicts else {}
    table_threshold = threshold if has_threshold else pixels.best_iou_threshold
    draws = {"count": replicates, "seed": seed}
    drawn = resample(source.category, counted, pixels, verdicts, **draws) if replicates else {}
    values = dict.fromkeys(METRICS, math.nan) | metric_values(pixels, images, rates)
    rows = [_image_row(image, table_threshold, has_threshold) for image in counted]
    return CategoryResult(
        metrics=_category_metrics(source, rows, values, pixels.best_iou_threshold, score=score),
        intervals={name: percentile_interval(values) for name, values in drawn.items()},
        defect_types=[
            _defect_type(name, counted, rows, pools, table_threshold) for name in sorted(pools)
        ],
        images=rows,
        curves=detection_curves(ranking, max_points=CURVE_POINTS),
        replicates=drawn,
    )


def _pools(counted: Sequence[CountedImage]) -> dict[str, PixelPool]:
    """All pixels of each defect type."""
    types = sorted({image.sample.defect_type for image in counted})
    return {
        name: pool_pixels([i.pixels.pixels for i in counted if i.sample.defect_type == name])
        for name in types
    }


def _image_metrics(counted: Sequence[CountedImage]) -> ImageMetrics:
    return image_metrics(
        np.array([image.score for image in counted]),
        np.array([image.sample.is_anomalous for image in counted]),
    )


def _category_metrics(
    source: CategorySource,
    rows: Sequence[ImageMetricsRow],
    values: Mapping[str, float],
    best_iou_threshold: float,
    *,
    score: ImageScore,
) -> CategoryMetrics:
    has_threshold = math.isfinite(source.threshold.value)
    return CategoryMetrics(
        category=source.category,
        kind="texture" if source.category in TEXTURES else "object",
        images=len(rows),
        anomalous_images=sum(sample.is_anomalous for sample in source.samples),
        **values,
        best_iou_threshold=best_iou_threshold,
        threshold=source.threshold.value,
        threshold_rule=source.threshold.rule,
        image_score=str(score),
        good=any(sample.defect_type == GOOD for sample in source.samples),
        map=source.map,
        resolution=source.resolution,
        regions=sum(row.regions for row in rows),
        missed_regions=sum(row.missed_regions for row in rows),
        table_threshold=source.threshold.value if has_threshold else best_iou_threshold,
        table_threshold_rule=source.threshold.rule if has_threshold else ORACLE_RULE,
        model_sha256=source.model_sha256,
        maps_sha256=source.maps_sha256,
        data_sha256=source.data_sha256,
    )


def _image_row(image: CountedImage, table_threshold: float, has_threshold: bool) -> ImageMetricsRow:
    counts = image.pixels.confusion(table_threshold)
    size = counts.positives + counts.negatives
    path = image.sample.path
    return ImageMetricsRow(
        image=f"{image.sample.defect_type}/{path.name}",
        defect_type=image.sample.defect_type,
        score=image.score,
        is_called=image.peak > table_threshold if has_threshold else None,
        area=counts.positives / size,
        called_area=(counts.true_positives + counts.false_positives) / size,
        iou=counts.iou if counts.positives else math.nan,
        recall=counts.recall,
        regions=image.pixels.region_peaks.size,
        missed_regions=image.pixels.missed_regions(table_threshold),
    )


def _defect_type(
    name: str,
    counted: Sequence[CountedImage],
    rows: Sequence[ImageMetricsRow],
    pools: Mapping[str, PixelPool],
    table_threshold: float,
) -> DefectTypeMetrics:
    own = [image for image in counted if image.sample.defect_type == name]
    table = [row for row in rows if row.defect_type == name]
    against = [image for image in counted if image.sample.defect_type in {name, GOOD}]
    counts = sum((image.pixels.confusion(table_threshold) for image in own), Confusion())
    ranked = rank_pixels([pools[kind] for kind in sorted({name, GOOD} & pools.keys())])
    pixels: PixelMetrics = pixel_metrics(ranked)
    return DefectTypeMetrics(
        defect_type=name,
        images=len(own),
        pixel_auroc=pixels.pixel_auroc,
        image_auroc=_image_metrics(against).image_auroc,
        iou=counts.iou if counts.positives else math.nan,
        recall=counts.recall,
        area=float(np.mean([row.area for row in table])),
        regions=sum(row.regions for row in table),
        missed_regions=sum(row.missed_regions for row in table),
    )
