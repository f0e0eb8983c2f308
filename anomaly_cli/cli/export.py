"""Options of `export`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs
from anomaly_cli.config.commands import ExportConfig, MapConfig
from anomaly_cli.config.names import ExportFormat
from anomaly_cli.errors import require
from anomaly_cli.files.address import Address

EXPORT, MAP = ExportConfig(model=Path()), MapConfig()


def export(
    model: option.Model,
    file_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="onnx: for ONNX Runtime, and localize. torch: an exported program, for torch.",
        ),
    ] = EXPORT.format,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write.", show_default="model.onnx or model.pt2, beside the model"
        ),
    ] = EXPORT.output,
    check: Annotated[
        Path | None,
        typer.Option(help="Folder of images to check the file on.", show_default="drawn images"),
    ] = EXPORT.check,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    scores: option.ModelScores = MAP.scores,
    threshold: option.Threshold = None,
    outline: option.Outline = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = EXPORT.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Write a model as one graph, from image to map, score, verdict and mask, and check it."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.tables import show_export
    from anomaly_cli.commands import export as command

    require(
        output is not None or not isinstance(model, Address),
        "--output is needed: the model is in a bucket, and the file is written to the disk",
    )
    config = ExportConfig(
        model=model,
        format=file_format,
        output=output,
        check=check,
        map=option.map_config(
            source=source,
            attention=attention,
            layer=target_layer,
            scores=scores,
            threshold=threshold,
            outline=outline,
            batch_size=MAP.batch_size,
            workers=MAP.workers,
            device="cpu",
        ),
        overwrite=overwrite,
    )
    progress = TerminalProgress()
    result = command.run(with_local_inputs(config, progress), progress)
    if json:
        terminal.print_json(command.to_json(result))
    else:
        show_export(result)
