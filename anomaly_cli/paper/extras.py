"""Tables and figures of the paper for MNIST and UCSD, written beside the report of `evaluate`."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import CHANNELS, RECONSTRUCTION
from anomaly_cli.data.mnist import DIGITS
from anomaly_cli.evaluation.baselines import measure, write_table
from anomaly_cli.evaluation.images import Sources
from anomaly_cli.evaluation.reports.published import TABLE_1
from anomaly_cli.evaluation.results import CategoryResult, EvaluationReport, mean
from anomaly_cli.evaluation.sources import find_models
from anomaly_cli.files.images import write_png
from anomaly_cli.files.tables import NumberTable
from anomaly_cli.paper.figures import digit_sheet, frame_sheet
from anomaly_cli.progress import SILENT, Progress
from models.config import CONVS


def write_paper_results(
    report: EvaluationReport, config: EvaluateConfig, progress: Progress = SILENT
) -> None:
    """Write the paper's tables and figures of MNIST or UCSD; nothing for other data sets.

    Args:
        report: results of all categories.
        config: settings of the evaluation.
        progress: shows a bar for each map.

    Raises:
        OutputError: a file cannot be written.
    """
    names = [row.category for row in report.rows]
    if config.dataset == "mnist":
        write_table("digits", digit_matrix(report.results), config)
        for name, open_source in find_models(config).items():
            if name in names:
                write_png(config.output / f"figure_4_{name}.png", digit_sheet(open_source()))
    if config.dataset == "ucsd":
        write_frames(names, config, progress)


def digit_matrix(results: Sequence[CategoryResult]) -> NumberTable:
    """Make a table of the image AUROC of each model (row) on each anomalous digit (column)."""
    values = np.full((len(results), len(DIGITS)), math.nan)
    for place, result in enumerate(results):
        for row in result.defect_types:
            if row.defect_type in DIGITS:
                values[place, DIGITS.index(row.defect_type)] = row.image_auroc
    rows = {
        result.metrics.category: [*of_model, mean(of_model), result.metrics.image_auroc]
        for result, of_model in zip(results, values.tolist(), strict=True)
    }
    if len(results) > 1:
        against_all = [result.metrics.image_auroc for result in results]
        means = [mean(column) for column in values.T.tolist()]
        rows["mean"] = [*means, mean(values.ravel().tolist()), mean(against_all)]
    return NumberTable(
        title="Image AUROC: a model of one digit, another digit as the anomaly",
        corner="model",
        columns=(*DIGITS, "mean", "all others"),
        rows=rows,
        notes=(
            "Rows: the digit that the model was trained on. Columns: the anomalous digit.",
            f"Maps: {', '.join(sorted({result.metrics.map for result in results}))}.",
        ),
    )


def open_columns(config: EvaluateConfig) -> dict[str, Sources]:
    """Find the UCSD models with the map of each column of Table 1, by name of the column."""
    error = replace(config.map, source="reconstruction", attention=None, layer=None)
    maps = {RECONSTRUCTION: error}
    for layer in CONVS[: len(CHANNELS["ucsd"])]:
        maps[layer] = replace(config.map, source="attention", layer=layer)
    return {column: find_models(replace(config, map=map_)) for column, map_ in maps.items()}


def write_frames(
    names: Sequence[str], config: EvaluateConfig, progress: Progress = SILENT
) -> dict[str, list[float]]:
    """Write Table 1 and Figure 5 for these cameras.

    Returns:
        Pixel AUROC of each camera, in the order of the columns.
    """
    opened = open_columns(config)
    rows: dict[str, list[float]] = {}
    aurocs: dict[str, list[float]] = {}
    for name in names:
        sources = {column: models[name]() for column, models in opened.items()}
        metrics = [
            measure(source, column, config, progress).pixels for column, source in sources.items()
        ]
        aurocs[name] = [row.pixel_auroc for row in metrics]
        rows[f"{name}, pixel AUROC"] = aurocs[name]
        rows[f"{name}, best IoU (oracle)"] = [row.best_iou for row in metrics]
        rows[f"{name}, AU-PRO 0.3"] = [row.aupro for row in metrics]
        write_png(config.output / f"figure_5_{name}.png", frame_sheet(sources))
    rows["paper, UCSDped1, pixel AUROC"] = list(TABLE_1)
    table = NumberTable(
        title="Reconstruction error against attention, all pixels of the test clips with masks",
        corner="",
        columns=tuple(opened),
        rows=rows,
        notes=("All maps are of one model. The paper has no figure for UCSDped2.",),
    )
    write_table("table_1", table, config)
    return aurocs
