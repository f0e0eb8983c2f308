"""Tables of numbers with named rows and columns, as JSON, CSV and Markdown."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from anomaly_cli.files.numbers import csv_cell, json_text, markdown, number

SCHEMA_VERSION = 1


class NumberTable(NamedTuple):
    """Table of numbers with named rows and columns; NaN is undefined."""

    title: str
    corner: str  # heading of the names of the rows
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[float]]
    notes: tuple[str, ...] = ()  # sentences that explain the numbers


def table_json(table: NumberTable) -> str:
    """Format a table as JSON: rows by name, and in them numbers by column; undefined is null."""
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
    """Format a table as CSV, with a line for each row; undefined is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([table.corner, *table.columns])
    for name, values in table.rows.items():
        writer.writerow([csv_cell(name), *(v if math.isfinite(v) else "" for v in values)])
    return text.getvalue()


def table_markdown(table: NumberTable) -> str:
    """Format a table as Markdown: a heading, the numbers with three digits, and the notes."""
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
