"""A comparison of two reports as Markdown, HTML and JSON."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from anomaly_cli.evaluation.comparison import (
    OF_TYPES,
    CategoryComparison,
    Comparison,
    Difference,
    TypeDifference,
    Verdicts,
)
from anomaly_cli.evaluation.metric_names import TITLES
from anomaly_cli.evaluation.reports.markdown import markdown_table
from anomaly_cli.files import numbers
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.numbers import difference, json_text, markdown, number
from anomaly_cli.files.page import page_template

FILES = ("comparison.html", "comparison.md", "comparison.json")
SCHEMA_VERSION = 1
_NAMED = 10  # images that a sentence lists


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write a comparison in each format.

    Raises:
        OutputError: a file cannot be written.
    """
    page, text, document = FILES
    write_text(folder / page, to_html(comparison))
    write_text(folder / text, to_markdown(comparison))
    content = json.dumps(to_json(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / document, json_text(content) + "\n")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Convert a comparison to plain JSON values; undefined numbers are null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "first": str(comparison.first),
        "second": str(comparison.second),
        "missing": list(comparison.missing),
        "note": comparison.note or None,
        "categories": [_part(part) for part in comparison.parts],
    }


def _part(part: CategoryComparison) -> dict[str, Any]:
    return {
        "category": part.category,
        "metrics": {
            row.metric: {
                "first": _defined(row.first),
                "second": _defined(row.second),
                "difference": _defined(row.difference),
                "interval": list(row.interval) if math.isfinite(row.interval.low) else None,
                "better": row.better or None,
            }
            for row in part.metrics
        },
        "defect_types": [
            {
                "defect_type": row.defect_type,
                "images": row.images,
                "first": dict(zip(OF_TYPES, map(_defined, row.first), strict=True)),
                "second": dict(zip(OF_TYPES, map(_defined, row.second), strict=True)),
            }
            for row in part.defect_types
        ],
        "verdicts": None if part.verdicts is None else part.verdicts._asdict(),
    }


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_html(comparison: Comparison) -> str:
    """Format a comparison as one self-contained HTML page, with all names escaped."""
    filters: dict[str, Callable[..., Any]] = {"number": number}
    wording = SimpleNamespace(ends=ends_text, pairs=_pairs, sentences=sentences)
    package, name = "anomaly_cli.evaluation.reports", "comparison.html.jinja"
    return page_template(package, name, filters).render(
        comparison=comparison,
        notes=notes(comparison),
        parts=comparison.parts,
        titles=TITLES,
        of_types=OF_TYPES,
        numbers=numbers,
        wording=wording,
    )


def to_markdown(comparison: Comparison) -> str:
    """Format a comparison as tables of GitHub's Markdown."""
    lines = [
        "# Comparison of two reports",
        f"First: {markdown(str(comparison.first))}\\\nSecond: {markdown(str(comparison.second))}",
        "A difference is second minus first, with its 95% interval over draws of the same images.",
        *map(markdown, notes(comparison)),
    ]
    for part in comparison.parts:
        lines += [f"## {markdown(part.category)}", _metrics_table(part)]
        if part.defect_types:
            lines.append(_types_table(part))
        if part.verdicts is not None:
            lines += ["\n".join(f"- {markdown(text)}" for text in sentences(part.verdicts))]
    return "\n\n".join(filter(None, lines)) + "\n"


def notes(comparison: Comparison) -> list[str]:
    """Say what the comparison lacks."""
    names = ", ".join(comparison.missing)
    only = f"Only one of the reports has {names}." if names else ""
    return list(filter(None, [comparison.note, only]))


def _metrics_table(part: CategoryComparison) -> str:
    rows = [
        [
            TITLES[row.metric],
            number(row.first),
            number(row.second),
            " ".join(filter(None, [difference(row.second, row.first), _in_brackets(row)])),
            row.better,
        ]
        for row in part.metrics
    ]
    return markdown_table(["metric", "first", "second", "difference", "better"], rows)


def _types_table(part: CategoryComparison) -> str:
    rows = [
        [
            markdown(row.defect_type),
            str(row.images),
            *(
                f"{difference(second, first)} ({number(first)}, {number(second)})"
                for first, second in _pairs(row)
            ),
        ]
        for row in part.defect_types
    ]
    return markdown_table(["defect type", "images", *(TITLES[name] for name in OF_TYPES)], rows)


def ends_text(row: Difference) -> str:
    """Format the interval of a difference, such as "-0.012 to +0.034"; empty if undefined."""
    low, high = row.interval
    return f"{low:+.3f} to {high:+.3f}" if math.isfinite(low) else ""


def _in_brackets(row: Difference) -> str:
    return f"({ends_text(row)})" if ends_text(row) else ""


def _pairs(row: TypeDifference) -> Iterator[tuple[float, float]]:
    return zip(row.first, row.second, strict=True)


def sentences(verdicts: Verdicts) -> list[str]:
    """Say which images one of the two judges otherwise than the other."""
    return [
        _sentence(names, what)
        for names, what in (
            (verdicts.found_by_first, "Defective images that only the first finds"),
            (verdicts.found_by_second, "Defective images that only the second finds"),
            (verdicts.alarms_of_first, "Good images that only the first calls anomalous"),
            (verdicts.alarms_of_second, "Good images that only the second calls anomalous"),
        )
        if names
    ] or ["Both call the same images anomalous."]


def _sentence(names: Sequence[str], what: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}, {len(names)}: {', '.join(names[:_NAMED])}{more}."
