"""A report on disk, in the formats that were asked for."""

import difflib
from collections.abc import Callable, Collection
from pathlib import Path

from anomaly_cli.errors import ConfigError
from anomaly_cli.files.atomic import write_text
from anomaly_cli.reports.junit import to_junit
from anomaly_cli.reports.machine import defect_types_csv, images_csv, json_document, to_csv
from anomaly_cli.reports.markdown import to_markdown
from anomaly_cli.reports.page import to_html
from anomaly_cli.reports.results import EvaluationReport

FILES: dict[str, dict[str, Callable[[EvaluationReport], str]]] = {
    "json": {"report.json": json_document},
    "csv": {
        "report.csv": to_csv,
        "defect_types.csv": defect_types_csv,
        "images.csv": images_csv,
    },
    "markdown": {"report.md": to_markdown},
    "junit": {"junit.xml": to_junit},
    "html": {"report.html": to_html},
}


def parse_formats(text: str) -> tuple[str, ...]:
    """Read "json,csv,...".

    Raises:
        ConfigError: no such format.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FILES:
            close = difflib.get_close_matches(name, FILES, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"--format {name} is unknown; {hint}known: {', '.join(FILES)}")
    if not names:
        raise ConfigError(f"--format names nothing; known: {', '.join(FILES)}")
    return names


def file_names(formats: Collection[str]) -> list[str]:
    """Names of the files of these formats."""
    return [file for name in formats for file in FILES[name]]


def write_reports(
    folder: Path, report: EvaluationReport, formats: Collection[str] = tuple(FILES)
) -> None:
    """Write the files of each format, each whole or not at all.

    Raises:
        OutputError: a file cannot be written.
    """
    for name in formats:
        for file, render in FILES[name].items():
            write_text(folder / file, render(report))
