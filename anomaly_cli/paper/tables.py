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
    metrics: Sequence[CategoryMetrics], failures: Mapping[str, Exception], title: str
) -> NumberTable:
    """Make Table 2: two rows for each category, then means over the categories with numbers."""
    found = {row.category: row for row in metrics}
    names = sorted(
        {*found, *failures}, key=lambda n: (list(TABLE_2).index(n) if n in TABLE_2 else 99, n)
    )
    rows: dict[str, Sequence[float]] = {}
    values: dict[str, tuple[list[float], list[float]]] = {}
    for name in names:
        row, paper = found.get(name), TABLE_2.get(name)
        auroc, iou = (row.pixel_auroc, row.best_iou) if row else (math.nan, math.nan)
        none = (math.nan,) * len(METHODS)
        values[name] = (
            [auroc, *(paper.pixel_auroc if paper else none)],
            [iou, *(paper.overlap if paper else none)],
        )
        rows[f"{name}, pixel AUROC"] = _beside_paper(values[name][0])
        rows[f"{name}, best IoU (oracle)"] = _beside_paper(values[name][1])
    for group, kind in _MEANS.items():
        known = [n for n in names if n in found and n in TABLE_2 and kind in {"", kind_of(n)}]
        if len(known) > 1:
            for place, metric in enumerate(("pixel AUROC", "best IoU (oracle)")):
                means = np.mean([values[name][place] for name in known], axis=0).tolist()
                rows[f"mean of {group} ({len(known)}), {metric}"] = _beside_paper(means)
    return NumberTable(
        title,
        "",
        ("ours", "the paper", "deviation", *METHODS[:-1]),
        rows,
        _notes_of_table_2(metrics, failures, names),
    )


def _beside_paper(values: Sequence[float]) -> list[float]:
    """Reorder a row: ours, the competitors in the order of METHODS, the paper.

    Returns:
        Ours, the paper, the deviation, then the competitors.
    """
    ours, *others, paper = values
    return [ours, paper, ours - paper, *others]


def _notes_of_table_2(
    metrics: Sequence[CategoryMetrics], failures: Mapping[str, Exception], names: Sequence[str]
) -> tuple[str, ...]:
    maps = ", ".join(f"{row.category} {row.map}" for row in metrics)
    missing = [name for name in TABLE_2 if name not in names]
    notes = [DEVIATION, f"Maps: {maps}.", CAVEAT]
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
