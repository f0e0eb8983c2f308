"""Options of `sample`."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.config.data import SampleConfig

SAMPLE = SampleConfig(destination=Path("data/sample"))


def sample(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to write to.")],
    category: Annotated[
        str, typer.Option(help="Category: brick, grass, gravel or all.")
    ] = SAMPLE.category,
    image_size: Annotated[
        int, typer.Option(help="Side of the images in pixels.")
    ] = SAMPLE.image_size,
    count: Annotated[int, typer.Option(help="Number of normal training images.")] = SAMPLE.count,
    seed: option.Seed = SAMPLE.seed,
    overwrite: option.Overwrite = SAMPLE.overwrite,
    json: option.Json = False,
) -> None:
    """Write a small data set with exact masks, made from photographs, in the MVTec AD layout."""
    from anomaly_cli.cli.show.tables import show_samples
    from anomaly_cli.commands import sample as command

    config = SampleConfig(
        destination=destination,
        category=category,
        image_size=image_size,
        count=count,
        seed=seed,
        overwrite=overwrite,
    )
    result = command.run(config)
    if json:
        terminal.print_json({"categories": [row._asdict() for row in result.categories]})
        return
    show_samples(result)
    terminal.note(f"next: anomaly-cli train --data {quote(str(destination))} --category {category}")
