"""Write a report in the requested formats."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from anomaly_cli.evaluation.comparison import DRAWS_FILE, draws_bytes
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
from anomaly_cli.files.atomic import atomic_write, remove_file

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
    folder: Path,
    report: EvaluationReport,
    formats: Collection[str] = tuple(FILES),
    *,
    seed: int = 0,
) -> None:
    """Write the files of each format; a file is written completely or not at all.

    Beside JSON lie the metrics of each draw of the test images, for `evaluate --compare`.

    Files of an earlier report go once the new ones are on the disk, and before these get their
    names: a full disk keeps the earlier report, and a kill leaves no mixture of both.

    Raises:
        OutputError: a file cannot be written.
    """
    contents = {
        file: render(report).encode("utf-8", "backslashreplace")
        for name in formats
        for file, render in FILES[name].items()
    }
    if "json" in formats and any(result.replicates for result in report.results):
        contents[DRAWS_FILE] = draws_bytes(report.results, seed)
    with ExitStack() as stack:
        for file, content in contents.items():
            stack.enter_context(atomic_write(folder / file)).write_bytes(content)
        for file in [*file_names(FILES), DRAWS_FILE]:
            remove_file(folder / file)
