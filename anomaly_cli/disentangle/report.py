"""Write the results of `disentangle`: pictures, comparison.json, one self-contained HTML file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anomaly_cli
from anomaly_cli.disentangle import charts
from anomaly_cli.disentangle.comparison import CAVEAT, TABLE_3, PairedDifference
from anomaly_cli.disentangle.dsprites import FACTORS, SpriteImages
from anomaly_cli.disentangle.pictures import (
    ENTROPIES,
    attention_figure,
    choose_examples,
    information_figure,
    traversal_figure,
)
from anomaly_cli.disentangle.runs import SCHEMA_VERSION, Run, json_values
from anomaly_cli.disentangle.scoring import TITLES
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.images import write_png
from anomaly_cli.files.numbers import difference, interval_text, number
from anomaly_cli.files.page import page_template, picture_url
from anomaly_cli.pictures.layout import below

COMPARISON_FILE, REPORT_FILE = "comparison.json", "report.html"
ATTENTION_FILE, TRAVERSALS_FILE = "attention.png", "traversals.png"
INFORMATION_FILE, CURVES_FILE = "mutual_information.png", "curves.png"
EXAMPLES = 6  # images of the attention figure


def write_report(
    folder: Path,
    runs: Sequence[Run],
    differences: Sequence[PairedDifference],
    sprites: SpriteImages,
) -> None:
    """Write the pictures of one run of each method, the comparison, and the HTML page.

    Raises:
        OutputError: a file cannot be written.
    """
    shown = list({run.method: run for run in reversed(runs)}.values())[::-1]  # first of each method
    images = sprites.images(choose_examples(sprites, EXAMPLES))
    write_png(folder / ATTENTION_FILE, attention_figure(shown, images))
    write_png(folder / TRAVERSALS_FILE, below([traversal_figure(run, images[0]) for run in shown]))
    write_png(folder / INFORMATION_FILE, below([information_figure(run) for run in shown]))
    write_png(folder / CURVES_FILE, charts.curves_figure(runs))
    if differences:
        document = comparison_document(runs, differences)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(folder / COMPARISON_FILE, text + "\n")
    write_text(folder / REPORT_FILE, _to_html(folder, runs, shown, differences))


def comparison_document(
    runs: Sequence[Run], differences: Sequence[PairedDifference]
) -> dict[str, Any]:
    """Convert a comparison to plain JSON values; undefined numbers are null."""
    rows = []
    for row in differences:
        numbers = {"first": row.first, "second": row.second, "difference": row.mean}
        numbers |= {"low": row.low, "high": row.high}
        pairs = {f"seed-{run.seed}": d for run, d in zip(runs[::2], row.differences, strict=True)}
        rows.append(
            {"name": row.name, **json_values(numbers), "pairs": row.pairs}
            | {"differences": json_values(pairs)}
        )
    first, second = (run.method for run in runs[:2])
    return {
        "schema_version": SCHEMA_VERSION,
        "first": first,
        "second": second,
        "interval": "95% Student t of the mean of paired differences",
        "differences": rows,
        "paper_table_3": {method: TABLE_3.get(method) for method in (first, second)},
        "runs": [dict(run.record) for run in runs],
    }


def _to_html(
    folder: Path,
    runs: Sequence[Run],
    shown: Sequence[Run],
    differences: Sequence[PairedDifference],
) -> str:
    """Format the HTML page, with all names escaped."""
    filters: dict[str, Callable[..., Any]] = {
        "number": number,
        "difference": lambda value: difference(value, 0.0),
    }
    return page_template("anomaly_cli.disentangle", "disentanglement.html.jinja", filters).render(
        version=anomaly_cli.__version__,
        runs=runs,
        shown=shown,
        differences=differences,
        interval_text=interval_text,
        titles=TITLES,
        table_3={run.method: TABLE_3.get(run.method, {}) for run in shown},
        caveat=CAVEAT,
        factors=list(zip(FACTORS, ENTROPIES.tolist(), strict=True)),
        panels=charts.make_panels(runs),
        charts=charts,
        attention=picture_url((folder / ATTENTION_FILE).read_bytes(), "png"),
        traversals=picture_url((folder / TRAVERSALS_FILE).read_bytes(), "png"),
    )
