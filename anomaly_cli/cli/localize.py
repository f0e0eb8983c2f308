"""Options of `localize`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.commands import LocalizeConfig, MapConfig
from anomaly_cli.config.names import DatasetName, Layout
from anomaly_cli.errors import DataError

LOCALIZE, MAP = LocalizeConfig(model=Path(), images=()), MapConfig()


def localize(
    ctx: typer.Context,
    model: option.Model,
    images: option.Images,
    dataset: Annotated[
        DatasetName | None,
        typer.Option(
            help="Take the test images of the model's category, of the data set whose root IMAGES "
            "is.",
            show_default="any images",
        ),
    ] = LOCALIZE.dataset,
    output: option.Output = LOCALIZE.output,
    maps: Annotated[bool, typer.Option(help="float32 TIFF anomaly maps.")] = LOCALIZE.maps,
    heatmaps: Annotated[
        bool, typer.Option(help="Colour pictures of the maps.")
    ] = LOCALIZE.heatmaps,
    overlays: Annotated[
        bool, typer.Option(help="The image under its heat, with the contour of the mask.")
    ] = LOCALIZE.overlays,
    masks: Annotated[bool, typer.Option(help="Binary masks, 0 and 255.")] = LOCALIZE.masks,
    latents: Annotated[
        str | None,
        typer.Option(help="Also show what latents see: all, top:K (most deviating) or 3,7."),
    ] = LOCALIZE.latents,
    layout: Annotated[
        Layout,
        typer.Option(
            help="mirror: the tree of the input. mvtec: maps as <category>/test/<defect type>/<id>"
            ".tiff, which MVTec's evaluation script and evaluate --maps read."
        ),
    ] = LOCALIZE.layout,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = MAP.threshold,
    outline: option.Outline = MAP.outline,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = LOCALIZE.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Show where images depart from normal: maps, heatmaps, overlays, masks and a manifest."""
    from anomaly_cli.commands import localize as command

    config = LocalizeConfig(
        model=model,
        images=tuple(images),
        dataset=dataset,
        output=output,
        map=option.map_config(
            source,
            attention,
            target_layer,
            scores,
            threshold,
            outline,
            batch_size,
            workers,
            device,
        ),
        maps=maps,
        heatmaps=heatmaps,
        overlays=overlays,
        masks=masks,
        latents=latents,
        layout=layout,
        overwrite=overwrite,
    )
    result = command.run(config, resolve_settings(ctx))
    if json:
        console.print_json(result.records)
    else:
        console.show_localization(result)
    if result.failed:
        raise typer.Exit(DataError.exit_code)
