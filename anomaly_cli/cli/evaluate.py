"""Options of `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.config import EvaluateConfig, MapConfig

EVALUATE, MAP = EvaluateConfig(), MapConfig()


def evaluate(
    model: Annotated[
        Path | None, typer.Option(help="One model, instead of all models of --runs.")
    ] = EVALUATE.model,
    runs: Annotated[Path, typer.Option(help="What train wrote.")] = EVALUATE.runs,
    data: option.Data = EVALUATE.data,
    category: option.Category = EVALUATE.category,
    output: option.Output = EVALUATE.output,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    threshold: option.Threshold = MAP.threshold,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EVALUATE.overwrite,
    json: option.Json = False,
) -> None:
    """Score models on their test splits: pixel and image ROC AUC, IoU, AU-PRO, and a report."""
    from anomaly_cli.commands import evaluate as command
    from anomaly_cli.reports import to_json

    config = EvaluateConfig(
        model=model,
        runs=runs,
        data=data,
        category=category,
        output=output,
        map=option.map_config(
            source, attention, target_layer, threshold, batch_size, workers, device
        ),
        overwrite=overwrite,
    )
    report = command.run(config)
    if json:
        console.print_json(to_json(report))
    else:
        console.show_evaluation(report)
        console.note(f"written to {output} (report.json, report.csv)")
