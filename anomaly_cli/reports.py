"""Results of `evaluate` -> JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import anomaly_cli
from anomaly_cli.files import write_text

SCHEMA_VERSION = 1
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
    "image_false_positive_rate",
    "image_recall",
)  # all in [0, 1]; NaN where undefined


@dataclass(frozen=True, kw_only=True)
class CategoryMetrics:
    """One category. Metrics lie in [0, 1]; NaN is undefined."""

    category: str
    kind: Literal["texture", "object"]
    images: int
    anomalous_images: int
    pixel_auroc: float  # over all pixels of the test split, normal images included
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
    image_false_positive_rate: float  # share of normal images above the stored threshold
    image_recall: float  # share of anomalous images above it
    map: str
    resolution: int  # side in pixels at which maps and masks were compared
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """All categories of one evaluation."""

    rows: tuple[CategoryMetrics, ...]

    def means(self) -> dict[str, dict[str, float]]:
        """Mean of each metric over textures, objects and all; undefined values are left out."""
        groups = {
            "textures": [row for row in self.rows if row.kind == "texture"],
            "objects": [row for row in self.rows if row.kind == "object"],
            "all": list(self.rows),
        }
        return {
            name: {metric: _mean([getattr(row, metric) for row in rows]) for metric in METRICS}
            for name, rows in groups.items()
            if rows
        }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def to_json(report: EvaluationReport) -> dict[str, Any]:
    """The report as plain JSON values; undefined is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "anomaly_cli": anomaly_cli.__version__,
        "categories": [_defined(asdict(row)) for row in report.rows],
        "means": {name: _defined(values) for name, values in report.means().items()},
    }


def _defined(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def to_csv(report: EvaluationReport) -> str:
    """One line per category; undefined is an empty cell."""
    text = io.StringIO()
    names = [field.name for field in fields(CategoryMetrics)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_defined(asdict(row)) for row in report.rows)
    return text.getvalue()


def write_reports(folder: Path, report: EvaluationReport) -> None:
    """Write `report.json` and `report.csv`.

    Raises:
        OutputError: a file cannot be written.
    """
    content = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "report.json", content + "\n")
    write_text(folder / "report.csv", to_csv(report))
