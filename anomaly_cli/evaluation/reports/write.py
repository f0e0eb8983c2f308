"""Write a report in the requested formats."""

from collections.abc import Callable, Collection
from pathlib import Path

from anomaly_cli.evaluation.reports.junit import to_junit
from anomaly_cli.evaluation.reports.machine import (
    defect_types_csv,
    images_csv,
    json_document,
    to_csv,
)
from anomaly_cli.evaluation.reports.markdown import to_markdown
from anomaly_cli.evaluation.reports.page import to_html
from anomaly_cli.evaluation.results import EvaluationReport
from anomaly_cli.files.atomic import remove_file, write_text

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


def file_names(formats: Collection[str]) -> list[str]:
    """List the names of the files of these formats."""
    return [file for name in formats for file in FILES[name]]


def write_reports(
    folder: Path, report: EvaluationReport, formats: Collection[str] = tuple(FILES)
) -> None:
    """Write the files of each format; a file is written completely or not at all.

    Files of an earlier report go first, so that a kill leaves no mixture of both.

    Raises:
        OutputError: a file cannot be written.
    """
    texts = {
        folder / file: render(report) for name in formats for file, render in FILES[name].items()
    }
    for files in FILES.values():
        for file in files:
            remove_file(folder / file)
    for path, text in texts.items():
        write_text(path, text)
