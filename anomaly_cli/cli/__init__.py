"""Command line of the tool, with its exit codes. Loads no torch until a command runs."""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import anomaly_cli
from anomaly_cli.cli import terminal
from anomaly_cli.cli.check_data import check_data
from anomaly_cli.cli.disentangle import disentangle
from anomaly_cli.cli.download import download
from anomaly_cli.cli.evaluate import evaluate
from anomaly_cli.cli.explain import explain
from anomaly_cli.cli.export import export
from anomaly_cli.cli.localize import localize
from anomaly_cli.cli.merge import merge
from anomaly_cli.cli.presets import presets
from anomaly_cli.cli.preview_defects import preview_defects
from anomaly_cli.cli.reproduce import reproduce
from anomaly_cli.cli.sample import sample
from anomaly_cli.cli.sources import ConfigurableCommand
from anomaly_cli.cli.train import train
from anomaly_cli.errors import AnomalyCliError, DeviceError, OutputError, is_shortage
from anomaly_cli.files.limits import allow_pixels

INTERRUPTED = 130  # 128 + SIGINT, as in shells


class _Group(TyperGroup):
    """Group of commands that turns errors into exit codes; any other exception is a bug."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AnomalyCliError as error:
            if ctx.params.get("debug"):
                raise
            terminal.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            terminal.error("interrupted; complete files are kept")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if ctx.params.get("debug") or not is_shortage(error):
                raise
            terminal.error(
                "there is too little memory; smaller images, or a smaller --batch-size, need less"
            )
            raise typer.Exit(DeviceError.exit_code) from None


app = typer.Typer(
    name="anomaly-cli",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 data, 4 model file, 5 output, 6 device, "
    "7 training diverged, 10 bar not met, 130 interrupted.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"anomaly-cli {anomaly_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results, warnings and errors.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            min=1,
            help="Largest number of pixels of an image that is decoded.",
            show_default="89 million",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train on normal images of a product, then localize anomalies in new images."""
    terminal.configure(quiet=quiet)
    if max_pixels is not None:
        allow_pixels(max_pixels)


for _command in (
    sample,
    download,
    check_data,
    preview_defects,
    train,
    localize,
    merge,
    evaluate,
    explain,
    export,
    disentangle,
    reproduce,
    presets,
):
    app.command(cls=ConfigurableCommand)(_command)


def main() -> None:
    """Run the command line, as the entry point of the console script.

    A stream that cannot show a name shows its escapes, and one on a full disk is one line of error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(1) from None  # as other tools, when `head` has seen enough
    except OSError as error:
        if error.filename is not None:  # not of a stream: a bug
            raise
        _discard_output()
        terminal.error(f"cannot write the result: {error.strerror or error}")
        raise SystemExit(OutputError.exit_code) from None


def _discard_output() -> None:
    """Let Python end in peace, which would write once more to a stream that takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
