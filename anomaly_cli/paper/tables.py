"""Tables of the paper with our numbers, the paper's, and the deviation, ours minus theirs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from anomaly_cli.config.objectives import Entry
from anomaly_cli.data.samples import kind_of
from anomaly_cli.disentangle.comparison import Comparison, compare_entries, score_table
from anomaly_cli.evaluation.reports.published import CAVEAT, METHODS, TABLE_1, TABLE_2
from anomaly_cli.evaluation.results import CategoryMetrics
from anomaly_cli.files.numbers import interval_text
from anomaly_cli.files.tables import NumberTable
from anomaly_cli.paper.stages import SYSTEMS

DEVIATION = "Deviation: ours minus the paper's."
PAPER_CAMERA = "UCSDped1"
_MEANS = {"textures": "texture", "objects": "object", "all": ""}


def table_1(of_cameras: Mapping[str, Sequence[float]], title: str) -> NumberTable:
    """Make Table 1: pixel AUROC of the reconstruction error and of attention at conv1 to conv3."""
    rows: dict[str, Sequence[float]] = {}
    for camera, values in of_cameras.items():
        rows[f"{camera}, ours"] = list(values)
        rows[f"{PAPER_CAMERA}, the paper"] = list(TABLE_1)
        rows[f"{camera}, deviation"] = np.subtract(values, TABLE_1).tolist()
    notes = [DEVIATION, "All maps of a camera are of one model."]
    if set(of_cameras) - {PAPER_CAMERA}:
        notes.append(
            f"The paper has no figure for UCSDped2: its deviation is from the paper's "
            f"{PAPER_CAMERA}, another camera, and says little."
        )
    columns = ("reconstruction error", "attention conv1", "attention conv2", "attention conv3")
    return NumberTable(title, "pixel AUROC", columns, rows, tuple(notes))


def table_2(
    metrics: Mapping[str, Sequence[CategoryMetrics]],
    categories: Sequence[str],
    failures: Mapping[str, Exception],
    title: str,
) -> NumberTable:
    """Make Table 2: a row for each method of each category, then means over the categories.

    Args:
        metrics: by method, a value of `stages.SYSTEMS`.
        categories: to be listed, in any order.
        failures: errors by name of the row.
        title: of the table.
    """
    order = [*TABLE_2, *sorted({*categories} - {*TABLE_2})]
    names = sorted(categories, key=order.index)
    rows: dict[str, Sequence[float]] = {}
    for name in names:
        for method in SYSTEMS.values():
            found = {row.category: row for row in metrics.get(method, ())}
            rows[f"{name}, {method}"] = _row_of_table_2(found.get(name), name, method)
    for group, kind in _MEANS.items():
        known = [name for name in names if name in TABLE_2 and kind in {"", kind_of(name)}]
        for method in SYSTEMS.values() if len(known) > 1 else ():
            of_method = np.array([rows[f"{name}, {method}"] for name in known])
            of_method = of_method[~np.isnan(of_method[:, 0])]
            if len(of_method) > 1:
                means = of_method.mean(axis=0).tolist()
                rows[f"mean of {group} ({len(of_method)}), {method}"] = means
    columns = (
        "pixel AUROC",
        "the paper's",
        "deviation",
        "best IoU (oracle)",
        "the paper's second row",
        "image AUROC",
    )
    return NumberTable(title, "", columns, rows, _notes_of_table_2(failures, names))


def _row_of_table_2(row: CategoryMetrics | None, category: str, method: str) -> list[float]:
    """List our numbers of one method on one category and the paper's; unknown is NaN."""
    auroc, iou, image = math.nan, math.nan, math.nan
    if row is not None:
        auroc, iou, image = row.pixel_auroc, row.best_iou, row.image_auroc
    paper_auroc, second = math.nan, math.nan
    place = list(SYSTEMS.values()).index(method)  # in the order of the paper's columns
    if category in TABLE_2 and place < len(METHODS):
        paper = TABLE_2[category]
        paper_auroc, second = paper.pixel_auroc[place], paper.overlap[place]
    return [auroc, paper_auroc, auroc - paper_auroc, iou, second, image]


def _notes_of_table_2(failures: Mapping[str, Exception], names: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in TABLE_2 if name not in names]
    notes = [DEVIATION, "The paper has no row for the default of train.", CAVEAT]
    if missing:
        notes.append(
            f"{len(missing)} of {len(TABLE_2)} categories are not in this run: "
            f"{', '.join(missing)}. Means are over the categories with numbers, of the paper too."
        )
    notes += [f"{name} failed: {error}" for name, error in failures.items()]
    return tuple(notes)


def table_3(comparison: Comparison, failures: Mapping[str, Exception], title: str) -> NumberTable:
    """Make Table 3: FactorVAE score of each entry over seeds, and what the attention loss adds."""
    of_entries = {own.entry: own for own in comparison.summaries}
    notes = []
    for entry, own in of_entries.items():
        plain = of_entries.get(Entry("factor-vae", entry.weight))
        if entry.method == "ad-factor-vae" and plain:
            pair = compare_entries([plain.entry, entry], [*plain.runs, *own.runs])
            notes += _note_of_pair(pair)
    table = score_table(comparison, title, failures)
    return table._replace(notes=(*notes, *table.notes))


def _note_of_pair(pair: Comparison) -> list[str]:
    """Describe the paired difference of two entries; nothing without shared seeds."""
    (own,), row = pair.compared, pair.compared[0].difference
    if row is None:
        return []
    interval = interval_text((row.low, row.high))
    return [
        f"{own.entry.label} minus {pair.reference.entry.label} on the same seeds: {row.mean:+.3f}"
        + (f", 95% Student t interval {interval}." if interval else ", one pair.")
    ]
