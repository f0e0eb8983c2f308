"""Results of the commands as tables on stdout."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from anomaly_cli.console.streams import make_console, note, one_line, warn

if TYPE_CHECKING:
    from anomaly_cli.commands.localize import LocalizationResult
    from anomaly_cli.commands.sample import SampleResult
    from anomaly_cli.commands.train import TrainedCategory
    from anomaly_cli.reports import EvaluationReport


def number(value: float, digits: int = 3) -> str:
    """A metric as text; n/a where it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def _table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    make_console(stderr=False).print(table)


def show_samples(result: "SampleResult") -> None:
    """Table of what `sample` wrote."""
    _table(
        f"Sample data set in {result.destination}",
        ["category", "normal for training", "normal for test", "anomalous for test"],
        [
            [row.category, str(row.train), str(row.test_normal), str(row.test_anomalous)]
            for row in result.categories
        ],
    )


def show_training(results: Sequence["TrainedCategory"]) -> None:
    """Table of the trained models."""
    _table(
        "Trained models",
        ["category", "fit", "held out", "best epoch", "held-out loss", "threshold", "model"],
        [
            [
                row.category,
                str(row.fit),
                str(row.held_out),
                str(row.epoch),
                f"{row.held_out_loss:,.0f}",
                f"{row.threshold:.4g} ({row.threshold_rule})",
                str(row.model),
            ]
            for row in results
        ],
    )


def show_localization(result: "LocalizationResult", *, rows: int = 20) -> None:
    """Table of the most anomalous images, and the numbers of all."""
    drawn = sorted(
        (record for record in result.records if "error" not in record),
        key=lambda record: -record["score"],
    )
    shown = drawn[:rows]
    title = f"{result.anomalous} of {len(drawn)} images are anomalous"
    if len(shown) < len(drawn):
        title += f"; the {len(shown)} highest scores"
    _table(
        title,
        ["image", "score", "threshold", "verdict", "anomalous area"],
        [
            [
                record["image"],
                f"{record['score']:.4g}",
                f"{record['threshold']:.4g}",
                "anomalous" if record["is_anomalous"] else "normal",
                f"{record['anomalous_share']:.2%}",
            ]
            for record in shown
        ],
    )
    note(f"written to {result.output} (one line per image in manifest.jsonl)")
    if result.failed:
        warn(f"{result.failed} of {len(result.records)} images could not be read")


_EVALUATION_COLUMNS = {
    "pixel AUROC": "pixel_auroc",
    "best IoU (oracle)": "best_iou",
    "image AUROC": "image_auroc",
    "AU-PRO 0.3": "aupro",
    "IoU": "iou",
    "precision": "precision",
    "recall": "recall",
}


def show_evaluation(report: "EvaluationReport") -> None:
    """Table of the categories with their means."""
    names = _EVALUATION_COLUMNS.values()
    rows = [[row.category, *(number(getattr(row, name)) for name in names)] for row in report.rows]
    if len(report.rows) > 1:
        for group, means in report.means().items():
            rows.append([f"mean of {group}", *(number(means[name]) for name in names)])
    resolutions = sorted({row.resolution for row in report.rows})
    maps = sorted({row.map for row in report.rows})
    title = (
        f"{', '.join(maps)} at {', '.join(map(str, resolutions))} px; IoU, precision and recall "
    )
    _table(title + "at the stored threshold", ["category", *_EVALUATION_COLUMNS], rows)
