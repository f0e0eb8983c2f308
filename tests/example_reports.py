"""Results made of given numbers, for the tests of reports and bars."""

import math
from dataclasses import replace

import numpy as np

from anomaly_cli.metrics.bootstrap import Interval
from anomaly_cli.metrics.curves import Curves
from anomaly_cli.reports.results import (
    UNDEFINED,
    CategoryMetrics,
    CategoryResult,
    DefectTypeMetrics,
    EvaluationReport,
    Example,
    Gate,
    ImageMetricsRow,
)

WOOD = CategoryMetrics(
    category="wood",
    kind="texture",
    images=79,
    anomalous_images=60,
    pixel_auroc=0.8,
    image_auroc=0.9,
    aupro=0.7,
    average_precision=0.4,
    best_f1=0.45,
    best_iou=0.3,
    best_iou_threshold=1.25,
    iou=0.2,
    precision=0.5,
    recall=0.25,
    threshold=1.5,
    threshold_rule="image-fpr=0.05",
    image_average_precision=0.95,
    image_best_f1=0.85,
    image_false_positive_rate=0.05,
    image_recall=0.75,
    image_score="max",
    good=True,
    map="diff_mahal@layer4",
    resolution=256,
    regions=168,
    missed_regions=40,
    table_threshold=1.5,
    table_threshold_rule="image-fpr=0.05",
    model_sha256="ab" * 32,
    maps_sha256=None,
    data_sha256="cd" * 32,
)
TILE = replace(WOOD, category="tile", pixel_auroc=0.6, aupro=math.nan)
PILL = replace(WOOD, category="pill", kind="object", pixel_auroc=0.4, aupro=math.nan)

COLOR = DefectTypeMetrics(
    defect_type="color",
    images=8,
    pixel_auroc=0.75,
    image_auroc=0.875,
    iou=0.125,
    recall=0.5,
    area=0.0375,
    regions=10,
    missed_regions=2,
)
STAIN = ImageMetricsRow(
    image="color/000.png",
    defect_type="color",
    score=2.5,
    is_called=True,
    area=0.0375,
    called_area=0.0625,
    iou=0.25,
    recall=0.5,
    regions=2,
    missed_regions=1,
)
PLAIN = replace(
    STAIN, image="good/000.png", defect_type="good", score=1.0, is_called=False, area=0.0,
    called_area=0.0, iou=math.nan, recall=math.nan, regions=0, missed_regions=0,
)  # fmt: skip
CURVES = Curves(*(np.array(values) for values in ([0.0, 0.5, 1.0],) * 3), np.array([2.0, 1.0, 0.0]))
BAR = Gate(
    category="wood",
    metric="pixel_auroc",
    value=0.8,
    interval=Interval(0.75, 0.85),
    bar=0.85,
    baseline=None,
    baseline_interval=UNDEFINED,
    is_met=False,
)
DROP = Gate(
    category="wood",
    metric="best_iou",
    value=0.3,
    interval=UNDEFINED,
    bar=0.28,
    baseline=0.29,
    baseline_interval=Interval(0.25, 0.33),
    is_met=True,
)


def result(row: CategoryMetrics = WOOD, **parts: object) -> CategoryResult:
    """A category with two images and one interval."""
    content = {
        "intervals": {"pixel_auroc": Interval(0.75, 0.85)},
        "defect_types": [COLOR],
        "images": [STAIN, PLAIN],
        "curves": CURVES,
        "misses": [Example(STAIN, b"image", b"truth", b"heat", b"mask")],
        "false_alarms": [Example(PLAIN, None, b"truth", b"heat", b"mask")],
    }
    return CategoryResult(metrics=row, **(content | parts))  # type: ignore[arg-type]


def report(*rows: CategoryMetrics) -> EvaluationReport:
    """Of metrics alone."""
    return EvaluationReport(results=tuple(CategoryResult(metrics=row) for row in rows))


def full_report() -> EvaluationReport:
    """Two categories with everything, one bar that is met and one that is not."""
    return EvaluationReport(
        results=(result(WOOD), result(PILL, intervals={})),
        settings={"seed": 0, "replicates": 1000, "map": {"source": "attention"}},
        versions={"python": "3.11.0"},
        gates=(BAR, DROP),
    )
