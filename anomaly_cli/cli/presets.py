"""Options of `presets`."""

from typing import Annotated

import typer

from anomaly_cli.config.presets import preset_names, preset_summary, preset_text


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Preset to print, as a file to start from.", autocompletion=preset_names
        ),
    ] = None,
) -> None:
    """List the presets for --preset, or print one as a configuration file."""
    if name is not None:
        typer.echo(preset_text(name), nl=False)
        return
    for known in preset_names():
        typer.echo(f"{known:<10}{preset_summary(known)}")
