"""Options of `reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.reproduce import TARGETS, ReproduceConfig

if TYPE_CHECKING:
    from anomaly_cli.commands.reproduce import Reproduced

DEFAULT = ReproduceConfig(targets=("table1",))


def reproduce(
    ctx: typer.Context,
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET", help=f"One or more of {', '.join(TARGETS)}.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Root folder of the data sets, as download writes them: mvtec, MNIST, ucsd and, "
            "optionally, dsprites."
        ),
    ] = DEFAULT.data,
    output: option.Output = DEFAULT.output,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided",
            help="Train models of MVTec AD by the default of train, not as in the paper.",
        ),
    ] = DEFAULT.guided,
    paper_epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs of the paper's VAE in table2; the table tells them.",
            show_default="300, as in the preset paper",
        ),
    ] = DEFAULT.paper_epochs,
    seeds: Annotated[
        int, typer.Option(help="Number of seeds per method of table3: SEED, SEED + 1, ...")
    ] = DEFAULT.seeds,
    reduced: Annotated[
        bool,
        typer.Option(
            "--reduced",
            help="Run all steps in about a minute, with few epochs, categories and images; the "
            "figures are meaningless.",
        ),
    ] = DEFAULT.reduced,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            "--dry-run",
            help="Print the required data and the estimated time on this machine; train nothing.",
        ),
    ] = False,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = DEFAULT.device,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Reproduce tables and figures of the paper, with the paper's numbers and the deviations."""
    config = ReproduceConfig(
        targets=tuple(targets),
        data=data,
        output=output,
        guided=guided,
        paper_epochs=paper_epochs,
        seeds=seeds,
        reduced=reduced,
        seed=seed,
        device=device,
    )
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.reproduce import show_estimate, show_reproduction
    from anomaly_cli.commands import reproduce as command

    if estimate:
        costs = command.estimate(config)
        if json:
            terminal.print_json(costs.to_json())
            return
        show_estimate(costs)
        return
    results = command.run(config, resolve_settings(ctx), TerminalProgress())
    if json:
        terminal.print_json(command.to_json(config, results))
    else:
        show_reproduction(config, results)
    _raise_failures(results)


def _raise_failures(results: "list[Reproduced]") -> None:
    """Raise an error of the kind of the first failure, if any; it decides the exit code."""
    failed = [(r.target, name, error) for r in results for name, error in r.failures.items()]
    if failed:
        target, name, error = failed[0]
        if len(failed) == 1 and target == name:
            raise error
        names = ", ".join(t if t == n else f"{n} of {t}" for t, n, _ in failed)
        raise type(error)(f"failed: {names}; first error: {error}")
