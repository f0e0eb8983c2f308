"""Options of `disentangle`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.config.objectives import Method, split_entries
from models.objective import MapNorm, Pairs

DEFAULT = DisentangleConfig()
_METHODS = "the method's"


def _check_entries(texts: list[str] | None) -> list[str] | None:
    """Refuse one entry alone, before Click refuses the word after it: they need a comma."""
    if texts:
        split_entries(texts)
    return texts


def disentangle(
    ctx: typer.Context,
    method: Annotated[Method, typer.Option(help="Training objective.")] = DEFAULT.method,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD[:WEIGHT],...",
            help="Train several methods with the same seeds instead, each with a weight (beta, or "
            "gamma of a FactorVAE), and report paired differences from the first. table3: all "
            "entries of Table 3 of the paper.",
            callback=_check_entries,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of seeds per entry of --compare: SEED, SEED + 1, ...")
    ] = DEFAULT.seeds,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Official file, dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz.",
            show_default="images rendered by the tool",
        ),
    ] = DEFAULT.data,
    output: option.Output = DEFAULT.output,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL term.", show_default=_METHODS)
    ] = DEFAULT.beta,
    gamma: Annotated[
        float | None,
        typer.Option(help="Weight of the total correlation.", show_default=_METHODS),
    ] = DEFAULT.gamma,
    overlap: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            help="Weight of the attention disentanglement loss.",
            show_default=_METHODS,
        ),
    ] = DEFAULT.overlap,
    pairs: Annotated[
        Pairs,
        typer.Option(
            help="Pairs of latents whose maps must not overlap. random: one random pair per step. "
            "top2: the two highest of each image. all: all pairs."
        ),
    ] = DEFAULT.pairs,
    map_norm: Annotated[
        MapNorm,
        typer.Option(
            help="Scale of the maps in the overlap. none: as in the paper. sum: each sums to 1."
        ),
    ] = DEFAULT.map_norm,
    latent_dim: Annotated[int, typer.Option(help="Number of latents.")] = DEFAULT.latent_dim,
    steps: Annotated[int, typer.Option(help="Number of training steps.")] = DEFAULT.steps,
    batch_size: option.BatchSize = DEFAULT.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of the VAE (Adam).")
    ] = DEFAULT.learning_rate,
    discriminator_learning_rate: Annotated[
        float, typer.Option(help="Learning rate of the discriminator (Adam).")
    ] = DEFAULT.discriminator_learning_rate,
    score_images: Annotated[
        int | None,
        typer.Option(help="Number of random images to score on.", show_default="all 737,280"),
    ] = DEFAULT.score_images,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = DEFAULT.device,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            "--dry-run",
            help="Print the estimated time on this machine; train nothing, write nothing.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training.")
    ] = DEFAULT.resume,
    overwrite: option.Overwrite = DEFAULT.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Train VAEs for disentangled latents on dSprites, score them and write a report."""
    config = DisentangleConfig(
        method=method,
        compare=tuple(compare) if compare else None,
        seeds=seeds,
        data=data,
        output=output,
        beta=beta,
        gamma=gamma,
        overlap=overlap,
        pairs=pairs,
        map_norm=map_norm,
        latent_dim=latent_dim,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        discriminator_learning_rate=discriminator_learning_rate,
        score_images=score_images,
        seed=seed,
        device=device,
        resume=resume,
        overwrite=overwrite,
    )
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.disentangle import show_costs, show_disentanglement
    from anomaly_cli.commands import disentangle as command

    if estimate:
        costs = command.estimate(config)
        if json:
            terminal.print_json(costs.to_json())
            return
        show_costs(costs)
        return
    result = command.run(config, resolve_settings(ctx), TerminalProgress())
    if json:
        terminal.print_json(result.document)
    else:
        show_disentanglement(result)
    result.raise_failures()
