"""The metrics of an evaluation, one row of `METRICS` each.

All are in [0, 1], or NaN where undefined. docs/report.md defines them.
"""

from typing import Literal, NamedTuple

Level = Literal["pixels", "images", "threshold"]


class Metric(NamedTuple):
    """One metric of an evaluation."""

    key: str  # in JSON, in `--fail-under`, and as a field of `CategoryMetrics`
    title: str  # in tables and plots
    # Source of the value. pixels: `PixelMetrics`; images: `ImageMetrics`; threshold: the rates at
    # the stored threshold, see `intervals.Verdicts`.
    level: Level
    field: str = ""  # name in that source, if it is not the key
    is_optimum: bool = False  # at the best threshold, chosen on the test labels
    is_gated: bool = True  # `--fail-under` takes it, because higher is better
    is_compared: bool = True  # `--baseline` compares it

    @property
    def source(self) -> str:
        """Name of the field that holds the value."""
        return self.field or self.key

    @property
    def is_ranged(self) -> bool:
        """Whether streaming counts give only a range that holds the exact value."""
        return self.level == "pixels"


METRICS = (
    Metric("pixel_auroc", "pixel AUROC", "pixels"),
    Metric("image_auroc", "image AUROC", "images"),
    Metric("aupro", "AU-PRO 0.3", "pixels"),
    Metric("average_precision", "pixel AP", "pixels"),
    Metric("best_f1", "best F1 (oracle)", "pixels", is_optimum=True),
    Metric("best_iou", "best IoU (oracle)", "pixels", is_optimum=True),
    Metric("iou", "IoU", "threshold"),
    # Precision and recall are not compared with a baseline: one falls as the other rises.
    Metric("precision", "precision", "threshold", is_compared=False),
    Metric("recall", "recall", "threshold", is_compared=False),
    Metric("image_average_precision", "image AP", "images", "average_precision"),
    Metric("image_best_f1", "image best F1 (oracle)", "images", "best_f1", is_optimum=True),
    Metric(
        "image_false_positive_rate",
        "image false-positive rate",
        "threshold",
        is_gated=False,
        is_compared=False,
    ),
    Metric("image_recall", "image recall", "threshold", is_compared=False),
)

KEYS = tuple(metric.key for metric in METRICS)
TITLES = {metric.key: metric.title for metric in METRICS}
PIXELS = tuple(metric for metric in METRICS if metric.level == "pixels")
IMAGES = tuple(metric for metric in METRICS if metric.level == "images")
RANGED = tuple(metric.key for metric in METRICS if metric.is_ranged)
GATED = tuple(metric.key for metric in METRICS if metric.is_gated)
LOWER_IS_BETTER = frozenset({"image_false_positive_rate"})
COMPARED = tuple(metric.key for metric in METRICS if metric.is_compared)

# Columns of tables in the terminal and in reports.
TERMINAL = ("pixel_auroc", "best_iou", "image_auroc", "aupro", "iou", "precision", "recall")
TERMINAL_RANGES = ("pixel_auroc", "best_iou", "aupro", "average_precision", "best_f1")
SUMMARY = ("pixel_auroc", "best_iou", "image_auroc", "aupro", "average_precision", "iou", "recall")
BESIDE_BASELINES = ("pixel_auroc", "best_iou", "aupro", "image_auroc")
