"""Options of `explain`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.commands import ExplainConfig, MapConfig
from anomaly_cli.errors import DataError

EXPLAIN, MAP = ExplainConfig(model=Path(), images=()), MapConfig()


def explain(
    ctx: typer.Context,
    model: option.Model,
    images: option.Images,
    output: option.Output = EXPLAIN.output,
    latents: Annotated[
        str, typer.Option(help="all, top:K (most deviating over all images) or 3,7.")
    ] = EXPLAIN.latents,
    rows: Annotated[int, typer.Option(help="Images that are drawn at most.")] = EXPLAIN.rows,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = MAP.threshold,
    outline: option.Outline = MAP.outline,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EXPLAIN.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Draw which latents deviate, where each one looks, and what it stands for."""
    from anomaly_cli.commands import explain as command

    config = ExplainConfig(
        model=model,
        images=tuple(images),
        output=output,
        latents=latents,
        rows=rows,
        map=option.map_config(
            MAP.source,
            attention,
            target_layer,
            scores,
            threshold,
            outline,
            batch_size,
            workers,
            device,
        ),
        overwrite=overwrite,
    )
    result = command.run(config, resolve_settings(ctx))
    if json:
        console.print_json(result.report)
    else:
        console.show_explanation(result)
    if result.failed:
        raise typer.Exit(DataError.exit_code)
