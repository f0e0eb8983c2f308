"""Options of `download`."""

from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.config.data import DownloadConfig
from anomaly_cli.config.names import DOWNLOADS

DEFAULT = DownloadConfig(names=("mnist",))


def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help=f"One or more of {', '.join(DOWNLOADS)}.")
    ],
    output: option.Output = DEFAULT.output,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence", help="Accept the licence; without this option, only show it."
        ),
    ] = DEFAULT.accept_licence,
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the file at a mirror; for mnist, of the folder of its four files.",
            show_default="the official one",
        ),
    ] = DEFAULT.url,
    checksum: Annotated[
        str | None,
        typer.Option(
            help="MD5 or SHA-256 of the file at --url, or none to skip the check.",
            show_default="the official one",
        ),
    ] = DEFAULT.checksum,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep the archive after unpacking it.")
    ] = DEFAULT.keep_archive,
    overwrite: option.Overwrite = DEFAULT.overwrite,
    json: option.Json = False,
) -> None:
    """Download, verify and unpack MNIST, UCSD, MVTec AD, dSprites or ResNet18 weights."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.download import show_downloads
    from anomaly_cli.commands import download as command

    config = DownloadConfig(
        names=tuple(names),
        output=output,
        accept_licence=accept_licence,
        url=url,
        checksum=checksum,
        keep_archive=keep_archive,
        overwrite=overwrite,
    )
    downloads = command.run(config, progress=TerminalProgress())
    if json:
        terminal.print_json(command.to_json(downloads))
        return
    show_downloads(downloads)
