"""Options of `disentangle`."""

from pathlib import Path
from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.disentangle import DisentangleConfig, Method
from anomaly_cli.console.disentanglement import show_disentanglement
from models.objective import MapNorm, Pairs

DEFAULT = DisentangleConfig()
_METHODS = "the method's"


def disentangle(
    ctx: typer.Context,
    method: Annotated[Method, typer.Option(help="What is minimised.")] = DEFAULT.method,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="METHOD METHOD",
            help="Train two methods on the same seeds instead, and report the paired difference.",
        ),
    ] = DEFAULT.compare,
    seeds: Annotated[
        int, typer.Option(help="Pairs of --compare: SEED, SEED + 1, ...")
    ] = DEFAULT.seeds,
    data: Annotated[
        Path | None,
        typer.Option(
            help="dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz, the official file.",
            show_default="the images are drawn",
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
            help="Latents whose maps shall not overlap: one random pair in each step, the two "
            "highest of each image, or all pairs."
        ),
    ] = DEFAULT.pairs,
    map_norm: Annotated[
        MapNorm,
        typer.Option(help="none: the paper's. sum: maps are scaled, so that fading gains nothing."),
    ] = DEFAULT.map_norm,
    latent_dim: Annotated[int, typer.Option(help="Number of latents.")] = DEFAULT.latent_dim,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = DEFAULT.steps,
    batch_size: option.BatchSize = DEFAULT.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Of the VAE, with Adam.")
    ] = DEFAULT.learning_rate,
    discriminator_learning_rate: Annotated[
        float, typer.Option(help="Of the discriminator, with Adam.")
    ] = DEFAULT.discriminator_learning_rate,
    score_images: Annotated[
        int | None,
        typer.Option(help="Score on as many images, drawn at random.", show_default="all 737,280"),
    ] = DEFAULT.score_images,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = DEFAULT.device,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where it stopped; keep what is finished.")
    ] = DEFAULT.resume,
    overwrite: option.Overwrite = DEFAULT.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Train VAEs on dSprites whose latents stand for one factor each, score and show them."""
    config = DisentangleConfig(
        method=method,
        compare=compare,
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
    from anomaly_cli.commands import disentangle as command

    result = command.run(config, resolve_settings(ctx))
    if json:
        console.print_json(result.document)
        return
    show_disentanglement(result)
