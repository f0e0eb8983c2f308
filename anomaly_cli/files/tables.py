"""A table of numbers with names on two sides -> JSON, CSV, Markdown."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from anomaly_cli.files.numbers import csv_cell, json_text, markdown, number

SCHEMA_VERSION = 1


class NumberTable(NamedTuple):
    """Rows of numbers by name; NaN is undefined."""

    title: str
    corner: str  # what the names of the rows are
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[float]]
    notes: tuple[str, ...] = ()  # how the numbers came about


def table_json(table: NumberTable) -> str:
    """Rows by name, and in them numbers by column; undefined is null."""
    rows = {
        name: {
            column: value if math.isfinite(value) else None
            for column, value in zip(table.columns, values, strict=True)
        }
        for name, values in table.rows.items()
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "title": table.title,
        "rows": rows,
        "notes": list(table.notes),
    }
    return json_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def table_csv(table: NumberTable) -> str:
    """A line for each row; undefined is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([table.corner, *table.columns])
    for name, values in table.rows.items():
        writer.writerow([csv_cell(name), *(v if math.isfinite(v) else "" for v in values)])
    return text.getvalue()


def table_markdown(table: NumberTable) -> str:
    """A heading, the table with three digits, and its notes."""
    lines = [f"| {' | '.join([table.corner, *table.columns])} |"]
    lines.append(f"| --- |{' ---: |' * len(table.columns)}")
    for name, values in table.rows.items():
        lines.append(f"| {' | '.join([markdown(name), *map(number, values)])} |")
    notes = "\n".join(f"- {markdown(note)}" for note in table.notes)
    return "\n\n".join([f"# {table.title}", "\n".join(lines), notes]).rstrip() + "\n"


TABLE_FILES: dict[str, tuple[str, Callable[[NumberTable], str]]] = {
    "json": (".json", table_json),
    "csv": (".csv", table_csv),
    "markdown": (".md", table_markdown),
}  # by format of `evaluate --format`
