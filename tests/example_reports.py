"""Results made of given numbers, for the tests of reports and bars."""

import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from anomaly_cli.errors import CheckpointError, DataError
from anomaly_cli.evaluation.results import (
    UNDEFINED,
    CategoryMetrics,
    CategoryResult,
    DefectTypeMetrics,
    EvaluationReport,
    Example,
    Failure,
    Gate,
    ImageMetricsRow,
)
from anomaly_cli.metrics.bootstrap import Interval
from anomaly_cli.metrics.curves import Curves

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
    outline=1.125,
    normal_level=0.25,
    expected_rate_low=0.0025,
    expected_rate_high=0.125,
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
    latents="hole: z0, z2; stain: z1",
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
    at_least=0.8,
    baseline_at_most=None,
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
    at_least=0.3,
    baseline_at_most=0.29,
)
NARROW = BAR._replace(bar=0.8, at_least=0.7985)  # its value reaches the bar, its low end does not
RANGES = {
    "pixel_auroc": Interval(0.7985, 0.8015),
    "aupro": Interval(0.7, 0.7),
    "average_precision": Interval(0.39, 0.41),
    "best_f1": Interval(0.45, 0.46),
    "best_iou": Interval(0.3, 0.305),
}
DAMAGED = Failure("cable", "object", DataError("cannot read cable/ground_truth/bent/001_mask.png"))
ABSENT = Failure("grid", "texture", CheckpointError("runs/grid/model.safetensors does not exist"))


def result(row: CategoryMetrics = WOOD, **parts: object) -> CategoryResult:
    """Build a category with two images and one interval."""
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
    """Build a report of metrics alone."""
    return EvaluationReport(results=tuple(CategoryResult(metrics=row) for row in rows))


def full_report() -> EvaluationReport:
    """Two categories with everything, one bar that is met and one that is not."""
    return EvaluationReport(
        results=(result(WOOD), result(PILL, intervals={})),
        settings={"seed": 0, "replicates": 1000, "map": {"source": "attention"}},
        versions={"python": "3.11.0"},
        gates=(BAR, DROP),
    )


def troubled_report() -> EvaluationReport:
    """Streaming counts leave ranges, and two categories failed."""
    return EvaluationReport(
        results=(
            result(
                replace(WOOD, counting="streaming"),
                ranges=RANGES,
                defect_types=[replace(COLOR, pixel_auroc_bound=0.00123)],
            ),
            result(replace(PILL, counting="streaming"), ranges={}, intervals={}),
        ),
        settings={"seed": 0, "replicates": 1000, "counting": "streaming"},
        versions={"python": "3.11.0"},
        gates=(NARROW,),
        failures=(DAMAGED, ABSENT),
    )


class Page(HTMLParser):
    """A page as a browser would see it: tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a tag; the parser calls it."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Collect text; the parser calls it."""
        self.text += data + " "
