"""Options of `check-data`."""

from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs
from anomaly_cli.config.data import CheckDataConfig
from anomaly_cli.errors import DataError

CHECK = CheckDataConfig()


def check_data(
    dataset: option.PhotographsOption = CHECK.dataset,
    data: option.Data = CHECK.data,
    category: option.Category = CHECK.category,
    image_size: Annotated[
        int,
        typer.Option(help="Side of the network's input in pixels; smaller images are reported."),
    ] = CHECK.image_size,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on warnings too (exit code 3).")
    ] = CHECK.strict,
    workers: Annotated[
        int, typer.Option(help="Number of threads that decode images.")
    ] = CHECK.workers,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Check a data set before training: files, masks, sizes, bit depth and duplicates."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.check_data import show_data_report
    from anomaly_cli.commands import check_data as command

    config = CheckDataConfig(
        dataset=dataset,
        data=data,
        category=category,
        image_size=image_size,
        strict=strict,
        workers=workers,
    )
    progress = TerminalProgress()
    report = command.run(with_local_inputs(config, progress), progress=progress)
    if json:
        terminal.print_json(command.to_json(report))
    else:
        show_data_report(report)
    if report.has_failed(strict=config.strict):
        raise typer.Exit(DataError.exit_code)
