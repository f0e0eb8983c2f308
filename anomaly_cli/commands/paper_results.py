"""What the paper shows of MNIST and UCSD, written beside the report of `evaluate`."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anomaly_cli.commands.map_tables import FindModels, measure, write_table
from anomaly_cli.commands.scoring import Sources
from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import CHANNELS, RECONSTRUCTION
from anomaly_cli.data.mnist import DIGITS
from anomaly_cli.files.images import write_png
from anomaly_cli.files.tables import NumberTable
from anomaly_cli.paper_figures import digit_sheet, frame_sheet
from anomaly_cli.reports.paper import TABLE_1
from anomaly_cli.reports.results import CategoryResult, EvaluationReport
from models.config import CONVS


def write_paper_results(
    report: EvaluationReport, config: EvaluateConfig, find_models: FindModels
) -> None:
    """Write tables and figures of the data sets that the paper has; of others, nothing.

    Args:
        report: of all categories.
        config: of the evaluation.
        find_models: opens the models with other settings of their maps.

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
        _write_frames(names, config, find_models)


def digit_matrix(results: Sequence[CategoryResult]) -> NumberTable:
    """Image AUROC of each model (row) on each digit as the anomaly (column)."""
    values = np.full((len(results), len(DIGITS)), math.nan)
    for place, result in enumerate(results):
        for row in result.defect_types:
            if row.defect_type in DIGITS:
                values[place, DIGITS.index(row.defect_type)] = row.image_auroc
    rows = {
        result.metrics.category: [*of_model, _mean(of_model), result.metrics.image_auroc]
        for result, of_model in zip(results, values.tolist(), strict=True)
    }
    if len(results) > 1:
        against_all = [result.metrics.image_auroc for result in results]
        means = [_mean(column) for column in values.T.tolist()]
        rows["mean"] = [*means, _mean(values.ravel().tolist()), _mean(against_all)]
    return NumberTable(
        title="Image AUROC: a model of one digit, another digit as the anomaly",
        corner="model",
        columns=(*DIGITS, "mean", "all others"),
        rows=rows,
        notes=(
            "Rows: the digit that the model was trained on. Columns: the digit to be told from it.",
            f"Maps: {', '.join(sorted({result.metrics.map for result in results}))}.",
        ),
    )


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def open_columns(config: EvaluateConfig, find_models: FindModels) -> dict[str, Sources]:
    """How to open the models of pedestrians with the map of each column of Table 1."""
    error = replace(config.map, source="reconstruction", attention=None, layer=None)
    maps = {RECONSTRUCTION: error}
    for layer in CONVS[: len(CHANNELS["ucsd"])]:
        maps[layer] = replace(config.map, source="attention", layer=layer)
    return {column: find_models(replace(config, map=map_)) for column, map_ in maps.items()}


def _write_frames(names: Sequence[str], config: EvaluateConfig, find_models: FindModels) -> None:
    opened = open_columns(config, find_models)
    rows: dict[str, list[float]] = {}
    for name in names:
        sources = {column: models[name]() for column, models in opened.items()}
        metrics = [measure(source, column, config).pixels for column, source in sources.items()]
        rows[f"{name}, pixel AUROC"] = [row.pixel_auroc for row in metrics]
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
