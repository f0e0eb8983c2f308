"""Options of `merge`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.errors import DataError
from anomaly_cli.files.address import parse_place


def merge(
    output: Annotated[
        Path,
        typer.Argument(
            parser=parse_place,
            help="Folder that all shards of a run of localize wrote to; or its address, s3://...",
        ),
    ],
    json: option.Json = False,
) -> None:
    """Merge the manifests of the shards of `localize` into one, as of a run without shards."""
    from anomaly_cli.commands.merge import merge_shards

    merged = merge_shards(output)
    if json:
        terminal.print_json({**merged._asdict(), "path": str(merged.path)})
    else:
        typer.echo(f"{merged.anomalous} of {merged.images - merged.failed} images are anomalous")
        terminal.note(f"written to {merged.path} from {merged.shards} shards")
    if merged.failed:
        terminal.warn(f"{merged.failed} of {merged.images} images could not be read")
        raise typer.Exit(DataError.exit_code)
