"""Options of `reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.reproduce import TARGETS, ReproduceConfig

if TYPE_CHECKING:
    from anomaly_cli.commands.reproduce import Reproduced

DEFAULT = ReproduceConfig(targets=("table1",))


def reproduce(
    ctx: typer.Context,
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET", help=f"Any of {', '.join(TARGETS)}.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Where the data sets lie, as download leaves them: mvtec, MNIST, "
            "ucsd, and if wanted dsprites."
        ),
    ] = DEFAULT.data,
    output: option.Output = DEFAULT.output,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided", help="MVTec AD with guided attention, instead of the paper's training."
        ),
    ] = DEFAULT.guided,
    seeds: Annotated[
        int, typer.Option(help="Seeds of each method of table3: SEED, SEED + 1, ...")
    ] = DEFAULT.seeds,
    reduced: Annotated[
        bool,
        typer.Option(
            "--reduced",
            help="The same steps in about a minute: few epochs, categories and images. The numbers "
            "say nothing.",
        ),
    ] = DEFAULT.reduced,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            "--dry-run",
            help="Print what it needs and what it will cost here, and train nothing.",
        ),
    ] = False,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = DEFAULT.device,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Make tables and figures of the paper anew, beside the paper's numbers and the deviation."""
    config = ReproduceConfig(
        targets=tuple(targets),
        data=data,
        output=output,
        guided=guided,
        seeds=seeds,
        reduced=reduced,
        seed=seed,
        device=device,
    )
    from anomaly_cli.commands import reproduce as command
    from anomaly_cli.console.reproduction import show_estimate, show_reproduction

    if estimate:
        costs = command.estimate(config)
        if json:
            console.print_json(costs.to_json())
            return
        show_estimate(costs, is_result=True)
        return
    results = command.run(config, resolve_settings(ctx))
    if json:
        console.print_json(command.to_json(config, results))
    else:
        show_reproduction(config, results)
    _raise_failures(results)


def _raise_failures(results: "list[Reproduced]") -> None:
    """What failed decides the exit code, once all else is written."""
    failed = [(r.target, name, error) for r in results for name, error in r.failures.items()]
    if failed:
        target, name, error = failed[0]
        if len(failed) == 1 and target == name:
            raise error
        names = ", ".join(t if t == n else f"{n} of {t}" for t, n, _ in failed)
        raise type(error)(f"failed: {names}; the first: {error}")
