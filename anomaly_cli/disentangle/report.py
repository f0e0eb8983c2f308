"""Write the results of `disentangle`: pictures, tables, JSON, one self-contained HTML file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import anomaly_cli
from anomaly_cli.config.objectives import TABLE_3
from anomaly_cli.disentangle import charts
from anomaly_cli.disentangle.comparison import (
    CAVEAT,
    Comparison,
    PairedDifference,
    Spread,
    Summary,
    compare_entries,
    score_table,
)
from anomaly_cli.disentangle.dsprites import FACTORS, SpriteImages
from anomaly_cli.disentangle.pictures import (
    ENTROPIES,
    attention_figure,
    choose_examples,
    information_figure,
    traversal_figure,
)
from anomaly_cli.disentangle.runs import Run, json_values
from anomaly_cli.disentangle.scoring import TITLES
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.images import write_png
from anomaly_cli.files.numbers import difference, interval_text, number
from anomaly_cli.files.page import page_template, picture_url
from anomaly_cli.files.tables import TABLE_FILES
from anomaly_cli.pictures.layout import below

SCHEMA_VERSION = 2  # of COMPARISON_FILE
COMPARISON_FILE, REPORT_FILE = "comparison.json", "report.html"
TITLE = "Disentanglement on dSprites, FactorVAE score"
ATTENTION_FILE, TRAVERSALS_FILE = "attention.png", "traversals.png"
INFORMATION_FILE, CURVES_FILE = "mutual_information.png", "curves.png"
EXAMPLES = 6  # images of the attention figure
MOST_SHOWN = 4  # entries in the pictures; of more, the reference and the best of each method


def write_report(
    folder: Path,
    runs: Sequence[Run],
    comparison: Comparison | None,
    sprites: SpriteImages,
    failures: Mapping[str, Exception] | None = None,
) -> None:
    """Write the pictures of one run of each entry, the comparison, and the HTML page.

    With more than MOST_SHOWN entries, all but the curves are of the best entry of each method.

    Args:
        folder: where to.
        runs: one or more finished trainings.
        comparison: of these runs; None for a single training.
        sprites: the images of the training.
        failures: errors of failed trainings, by name.

    Raises:
        OutputError: a file cannot be written.
    """
    shown = choose_shown(_first_of_each(runs), comparison)
    images = sprites.images(choose_examples(sprites, EXAMPLES))
    write_png(folder / ATTENTION_FILE, attention_figure(shown, images))
    write_png(folder / TRAVERSALS_FILE, below([traversal_figure(run, images[0]) for run in shown]))
    write_png(folder / INFORMATION_FILE, below([information_figure(run) for run in shown]))
    write_png(folder / CURVES_FILE, charts.curves_figure(runs))
    if comparison:
        document = comparison_document(comparison, failures or {})
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(folder / COMPARISON_FILE, text + "\n")
        table = score_table(comparison, TITLE, failures)
        for name in ("csv", "markdown"):
            suffix, render = TABLE_FILES[name]
            write_text((folder / COMPARISON_FILE).with_suffix(suffix), render(table))
    write_text(folder / REPORT_FILE, _to_html(folder, runs, shown, comparison, failures or {}))


def _first_of_each(runs: Sequence[Run]) -> list[Run]:
    """List the first run of each entry."""
    return list({run.entry: run for run in reversed(runs)}.values())[::-1]


def choose_shown(runs: list[Run], comparison: Comparison | None) -> list[Run]:
    """Choose the runs to draw: all, or of many, the reference and the best of each method."""
    if comparison is None or len(runs) <= MOST_SHOWN:
        return runs
    trained = [own for own in comparison.summaries if own.runs]
    by_score = sorted(trained, key=lambda own: np.nan_to_num(own.factor_vae.mean, nan=-1.0))
    best = {own.entry.method: own.entry for own in by_score}  # the last one stays
    chosen = {comparison.reference.entry, *best.values()}
    return [run for run in runs if run.entry in chosen]


def comparison_document(
    comparison: Comparison, failures: Mapping[str, Exception]
) -> dict[str, Any]:
    """Convert a comparison to plain JSON values; undefined numbers are null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "reference": comparison.reference.entry.label,
        "spread": "standard deviation over seeds",
        "interval": "95% Student t of the mean of paired differences",
        "entries": [_summary_document(own) for own in comparison.summaries],
        "failures": {name: str(error) for name, error in failures.items()},
        "runs": [dict(run.record) for own in comparison.summaries for run in own.runs],
    }


def _summary_document(own: Summary) -> dict[str, Any]:
    def plain(spread: Spread) -> dict[str, float | None]:
        return json_values({"mean": spread.mean, "sd": spread.deviation})

    return {
        "entry": own.entry.label,
        "method": own.entry.method,
        own.entry.weight_name: own.entry.weight,
        "seeds": [run.seed for run in own.runs],
        "scores": {name: plain(spread) for name, spread in own.spreads.items()},
        "paper": own.paper,
        **json_values({"deviation": own.deviation}),
        "differences": [_row_document(row, own.seeds) for row in own.differences],
    }


def _row_document(row: PairedDifference, seeds: Sequence[int]) -> dict[str, Any]:
    numbers = {"reference": row.first, "entry": row.second, "difference": row.mean}
    numbers |= {"low": row.low, "high": row.high}
    pairs = {f"seed-{seed}": d for seed, d in zip(seeds, row.differences, strict=True)}
    return {
        "name": row.name,
        **json_values(numbers),
        "pairs": row.pairs,
        "differences": json_values(pairs),
    }


def _to_html(
    folder: Path,
    runs: Sequence[Run],
    shown: Sequence[Run],
    comparison: Comparison | None,
    failures: Mapping[str, Exception],
) -> str:
    """Format the HTML page, with all names escaped."""
    filters: dict[str, Callable[..., Any]] = {
        "number": number,
        "difference": lambda value: difference(value, 0.0),
    }
    firsts = _first_of_each(runs)
    methods = dict.fromkeys(run.entry.method for run in firsts)
    return page_template("anomaly_cli.disentangle", "disentanglement.html.jinja", filters).render(
        version=anomaly_cli.__version__,
        runs=runs,
        firsts=firsts,
        shown=shown,
        comparison=comparison,
        # A single training has no differences, but stands beside the paper all the same.
        beside=comparison or compare_entries([run.entry for run in firsts], runs),
        failures=failures,
        interval_text=interval_text,
        titles=TITLES,
        table_3={method: TABLE_3.get(method, {}) for method in methods},
        caveat=CAVEAT,
        factors=list(zip(FACTORS, ENTROPIES.tolist(), strict=True)),
        panels=charts.make_panels(runs),
        charts=charts,
        attention=picture_url((folder / ATTENTION_FILE).read_bytes(), "png"),
        traversals=picture_url((folder / TRAVERSALS_FILE).read_bytes(), "png"),
    )
