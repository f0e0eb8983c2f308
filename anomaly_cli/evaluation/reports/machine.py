"""Reports for programs: JSON with a schema version, and CSV."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import anomaly_cli
from anomaly_cli.evaluation.metric_names import KEYS, RANGED
from anomaly_cli.evaluation.results import (
    UNDEFINED,
    CategoryMetrics,
    CategoryResult,
    DefectTypeMetrics,
    EvaluationReport,
    Failure,
    Gate,
    ImageMetricsRow,
)
from anomaly_cli.files.numbers import csv_cell, json_text
from anomaly_cli.metrics.bootstrap import Interval

SCHEMA_VERSION = 1
_RANGE_ENDS = ("at_least", "at_most")


def to_json(report: EvaluationReport) -> dict[str, Any]:
    """Convert a report to plain JSON values; undefined numbers are null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "anomaly_cli": anomaly_cli.__version__,
        "settings": dict(report.settings),
        "versions": dict(report.versions),
        "categories": [_category(result) for result in report.results],
        "means": {name: _defined(values) for name, values in report.means().items()},
        "mean_intervals": {
            name: _intervals(values) for name, values in report.mean_intervals().items()
        },
        "mean_ranges": {name: _intervals(values) for name, values in report.mean_ranges().items()},
        "gates": [_gate(gate) for gate in report.gates],
        "failed": [_failure(failure) for failure in report.failures],
    }


def json_document(report: EvaluationReport) -> str:
    """Format the text of `report.json`, with the values of `to_json`."""
    content = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    return json_text(content) + "\n"


def _category(result: CategoryResult) -> dict[str, Any]:
    return _defined(asdict(result.metrics)) | {
        "intervals": _intervals(result.intervals),
        "ranges": _intervals({name: result.range(name) for name in RANGED}),
        "defect_types": [_defined(asdict(row)) for row in result.defect_types],
        "image_table": [_defined(asdict(row)) for row in result.images],
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "category": failure.category,
        "kind": failure.kind,
        "error": type(failure.error).__name__,
        "exit_code": failure.error.exit_code,
        "reason": str(failure.error),
    }


def _gate(gate: Gate) -> dict[str, Any]:
    values = gate._asdict()
    return _defined(values) | {
        "interval": _interval(gate.interval),
        "baseline_interval": _interval(gate.baseline_interval),
    }


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _intervals(intervals: Mapping[str, Interval]) -> dict[str, list[float] | None]:
    return {name: _interval(interval) for name, interval in intervals.items()}


def _interval(interval: Interval) -> list[float] | None:
    return list(interval) if all(map(math.isfinite, interval)) else None


def to_csv(report: EvaluationReport) -> str:
    """Format one line per category: metrics, and the ends of intervals and ranges.

    Undefined numbers are empty cells. A category that failed has no number, and the reason in the
    last column.
    """
    names = [field.name for field in fields(CategoryMetrics)]
    ends = [f"{metric}_{end}" for metric in KEYS for end in Interval._fields]
    exact = [f"{metric}_{end}" for metric in RANGED for end in _RANGE_ENDS]
    failed = [
        {"category": failure.category, "kind": failure.kind, "error": str(failure.error)}
        for failure in report.failures
    ]
    lines = [*(_line(result) for result in report.results), *failed]
    return _table([*names, *ends, *exact, "error"], lines)


def _line(result: CategoryResult) -> dict[str, Any]:
    intervals = {
        f"{metric}_{end}": value
        for metric in KEYS
        for end, value in result.intervals.get(metric, UNDEFINED)._asdict().items()
    }
    ranges = {
        f"{metric}_{end}": value
        for metric in RANGED
        for end, value in zip(_RANGE_ENDS, result.range(metric), strict=True)
    }
    return asdict(result.metrics) | intervals | ranges


def defect_types_csv(report: EvaluationReport) -> str:
    """Format one line per category and defect type."""
    return _rows(report, DefectTypeMetrics, [result.defect_types for result in report.results])


def images_csv(report: EvaluationReport) -> str:
    """Format one line per category and test image."""
    return _rows(report, ImageMetricsRow, [result.images for result in report.results])


def _rows(report: EvaluationReport, kind: type[Any], tables: Sequence[Sequence[Any]]) -> str:
    names = ["category", *(field.name for field in fields(kind))]
    lines = (
        {"category": result.metrics.category} | asdict(row)
        for result, table in zip(report.results, tables, strict=True)
        for row in table
    )
    return _table(names, lines)


def _table(names: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow(
            {k: csv_cell(v) if isinstance(v, str) else v for k, v in _defined(line).items()}
        )
    return text.getvalue()
