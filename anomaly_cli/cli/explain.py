"""Options of `explain`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs, with_local_output
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.commands import ExplainConfig, MapConfig
from anomaly_cli.errors import DataError

EXPLAIN, MAP = ExplainConfig(model=Path(), images=()), MapConfig()


def explain(
    ctx: typer.Context,
    model: option.Model,
    images: option.Images,
    output: option.OutputPlace = EXPLAIN.output,
    latents: Annotated[
        str,
        typer.Option(
            help="Latents: all, top:K (most deviating over all images) or numbers, such as 3,7."
        ),
    ] = EXPLAIN.latents,
    rows: Annotated[
        int, typer.Option(help="Largest number of images in the figure.")
    ] = EXPLAIN.rows,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = None,
    outline: option.Outline = None,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EXPLAIN.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Draw the most deviating latents of images, with attention maps and traversals."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.tables import show_explanation
    from anomaly_cli.commands import explain as command

    config = ExplainConfig(
        model=model,
        images=tuple(images),
        output=output,
        latents=latents,
        rows=rows,
        map=option.map_config(
            source=MAP.source,
            attention=attention,
            layer=target_layer,
            scores=scores,
            threshold=threshold,
            outline=outline,
            batch_size=batch_size,
            workers=workers,
            device=device,
        ),
        overwrite=overwrite,
    )
    progress = TerminalProgress()
    with with_local_output(with_local_inputs(config, progress)) as own:
        result = command.run(own, resolve_settings(ctx), progress)
    result = result._replace(output=config.output)  # not the working folder of an address
    if json:
        terminal.print_json(result.report)
    else:
        show_explanation(result)
    if result.failed:
        raise typer.Exit(DataError.exit_code)
