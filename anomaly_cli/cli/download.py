"""Options of `download`."""

from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.config.data import DownloadConfig
from anomaly_cli.config.names import DOWNLOADS
from anomaly_cli.console.download import show_downloads

DEFAULT = DownloadConfig(names=("mnist",))


def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help=f"Any of {', '.join(DOWNLOADS)}.")
    ],
    output: option.Output = DEFAULT.output,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence", help="The licence is accepted; without it, it is shown alone."
        ),
    ] = DEFAULT.accept_licence,
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the file (of mnist: of the folder of its four) at a mirror.",
            show_default="the official one",
        ),
    ] = DEFAULT.url,
    checksum: Annotated[
        str | None,
        typer.Option(
            help="MD5 or SHA-256 of the file at --url, or none to check nothing.",
            show_default="the official one",
        ),
    ] = DEFAULT.checksum,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep what was fetched after it is unpacked.")
    ] = DEFAULT.keep_archive,
    overwrite: option.Overwrite = DEFAULT.overwrite,
    json: option.Json = False,
) -> None:
    """Fetch MNIST, UCSD, MVTec AD, dSprites, or ResNet18 weights: checked, resumed, unpacked."""
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
    downloads = command.run(config)
    if json:
        console.print_json(command.to_json(downloads))
        return
    show_downloads(downloads)
