"""Options of `localize`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs
from anomaly_cli.cli.processes import run_in_processes
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.names import DatasetName, Engine, Layout
from anomaly_cli.config.values import parse_shard
from anomaly_cli.errors import DataError

LOCALIZE, MAP = LocalizeConfig(model=Path(), images=()), MapConfig()


def localize(
    ctx: typer.Context,
    model: option.Model,
    images: option.Images,
    dataset: Annotated[
        DatasetName | None,
        typer.Option(
            help="Use the test images of the model's category; IMAGES is the root of the data set.",
            show_default="no data set",
        ),
    ] = LOCALIZE.dataset,
    output: option.OutputPlace = LOCALIZE.output,
    maps: Annotated[
        bool, typer.Option(help="Write anomaly maps, as float32 TIFF.")
    ] = LOCALIZE.maps,
    heatmaps: Annotated[bool, typer.Option(help="Write heatmaps, in colour.")] = LOCALIZE.heatmaps,
    overlays: Annotated[
        bool,
        typer.Option(help="Write overlays: image, heatmap and the outline of the mask."),
    ] = LOCALIZE.overlays,
    masks: Annotated[bool, typer.Option(help="Write binary masks, 0 and 255.")] = LOCALIZE.masks,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Software that computes maps. onnxruntime: of a file that export wrote.",
            show_default="onnxruntime for .onnx, else torch",
        ),
    ] = LOCALIZE.engine,
    latents: Annotated[
        str | None,
        typer.Option(
            help="Also write maps of latents: all, top:K (most deviating) or numbers, such as 3,7."
        ),
    ] = LOCALIZE.latents,
    layout: Annotated[
        Layout,
        typer.Option(
            help="Layout of the files. mirror: that of the input. mvtec: <category>/test/<defect "
            "type>/<id>.tiff, as for MVTec's evaluation script and evaluate --maps."
        ),
    ] = LOCALIZE.layout,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = None,
    outline: option.Outline = None,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Do the images of shard K of N alone, K from 1; merge joins the shards "
            "(docs/scaling.md).",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last image of a run that was stopped.")
    ] = LOCALIZE.resume,
    overwrite: option.Overwrite = LOCALIZE.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Localize anomalies in images: write maps, heatmaps, overlays, masks and a manifest."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.tables import show_localization
    from anomaly_cli.commands import localize as command

    config = LocalizeConfig(
        model=model,
        images=tuple(images),
        dataset=dataset,
        output=output,
        map=option.map_config(
            source=source,
            attention=attention,
            layer=target_layer,
            scores=scores,
            threshold=threshold,
            outline=outline,
            batch_size=batch_size,
            workers=workers,
            device=device,
        ),
        maps=maps,
        heatmaps=heatmaps,
        overlays=overlays,
        masks=masks,
        latents=latents,
        layout=layout,
        shard=None if shard is None else parse_shard(shard),
        engine=engine,
        resume=resume,
        overwrite=overwrite,
    )
    settings, progress = resolve_settings(ctx), TerminalProgress()
    config = with_local_inputs(config, progress)
    result = run_in_processes(
        device,
        lambda: command.run(config, settings, progress),
        lambda team: command.run_in_team(config, team, settings, progress),
    )
    if result is None:
        return
    if json:
        terminal.print_json(result.records)
    else:
        show_localization(result)
    if result.failed:
        raise typer.Exit(DataError.exit_code)
