"""Options of `preview-defects`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs
from anomaly_cli.config.data import PreviewDefectsConfig

PREVIEW = PreviewDefectsConfig(dataset="folder")  # mvtec has no default category


def preview_defects(
    category: Annotated[
        str,
        typer.Option(
            help="Name of a category.", show_default="the folder's name, with --dataset folder"
        ),
    ] = PREVIEW.category,
    dataset: option.PhotographsOption = "mvtec",
    data: option.Data = PREVIEW.data,
    output: Annotated[Path, typer.Option(help="PNG file to write.")] = PREVIEW.output,
    image_size: Annotated[
        int, typer.Option(help="Side of the images in pixels.")
    ] = PREVIEW.image_size,
    examples: Annotated[
        int, typer.Option(help="Number of defects of each kind.")
    ] = PREVIEW.examples,
    seed: option.Seed = PREVIEW.seed,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = PREVIEW.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Write a picture of the synthetic defects that guide the training of a category."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.commands import preview_defects as command

    config = PreviewDefectsConfig(
        dataset=dataset,
        data=data,
        category=category,
        output=output,
        image_size=image_size,
        examples=examples,
        seed=seed,
        overwrite=overwrite,
    )
    result = command.run(with_local_inputs(config, TerminalProgress()))
    if json:
        terminal.print_json(command.to_json(result))
        return
    place = "mostly on the object" if result.has_foreground else "anywhere, as no object was found"
    terminal.note(f"written to {result.output}; position of the defects: {place}")
