"""Options of `train`."""

from typing import Annotated

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config.names import Guidance
from anomaly_cli.config.train import TrainConfig, default_options
from models.config import (
    Freeze,
    Head,
    Neck,
    Reconstruction,
    VAEConfig,
)

TRAIN, MODEL = TrainConfig(), VAEConfig()
# Options whose value is written to settings.toml as it came out, not as it was given.
_DERIVED = {*default_options(TRAIN.guidance), "guidance", "attention"}


def _told(name: str) -> str:
    """A default that depends on other options, in words."""
    guided = default_options("synthetic")[name]
    plain = default_options("none")[name]
    fast = default_options("synthetic", fast=True)[name]
    told = str(guided)
    if plain != guided:
        told += f"; {plain} without guidance"
    return told + (f"; {fast} with --fast" if fast != guided else "")


def train(
    ctx: typer.Context,
    dataset: option.DatasetOption = TRAIN.dataset,
    category: option.Category = TRAIN.category,
    data: option.Data = TRAIN.data,
    output: option.Output = TRAIN.output,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the normal images.", show_default=_told("epochs")),
    ] = None,
    images_seen: Annotated[
        int | None,
        typer.Option(
            help="Epochs are added until so many images were seen.",
            show_default=f"{_told('images_seen')}; 0 with --epochs",
        ),
    ] = None,
    half_size: Annotated[
        float | None,
        typer.Option(
            help="Share of the epochs, the first ones, that see images of half the side: a "
            "quarter of the cost.",
            show_default=f"{_told('half_size')}, and below 192 pixels",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images at a time.", show_default=_told("batch_size"))
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak of the one-cycle schedule.", show_default=_told("learning_rate")),
    ] = None,
    gradient_clip: Annotated[
        float, typer.Option(help="Largest norm of the gradient of the loss per pixel value.")
    ] = TRAIN.gradient_clip,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side in pixels, a multiple of 32.", show_default=_told("image_size")),
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="Number of latents.")] = MODEL.latent_dim,
    head: Annotated[
        Head, typer.Option(help="What lies between the last activation and the posterior.")
    ] = MODEL.head,
    neck: Annotated[
        Neck | None,
        typer.Option(
            help="fpn: fuse the stages into one fine activation. none: the paper's.",
            show_default=_told("neck"),
        ),
    ] = None,
    neck_stride: Annotated[
        int, typer.Option(help="Pixels per position of the fused activation: 4 or 8.")
    ] = MODEL.neck_stride,
    reconstruction: Annotated[
        Reconstruction | None,
        typer.Option(help="Misfit of the decoder.", show_default=_told("reconstruction")),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL term.", show_default=_told("beta"))
    ] = None,
    guidance: Annotated[
        Guidance | None,
        typer.Option(
            help="synthetic: attention learns to find defects drawn into normal images. "
            "none: the paper's training.",
            show_default=f"{TRAIN.guidance}; none with --dataset mnist or ucsd",
        ),
    ] = None,
    guidance_ratio: Annotated[
        float, typer.Option(help="How hard guidance pulls, in terms of the VAE's own loss.")
    ] = TRAIN.guidance_ratio,
    fast: Annotated[
        bool, typer.Option("--fast", help="Smaller images and fewer epochs, where not given.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="Encoder before training: none, imagenet, or a file.")
    ] = TRAIN.weights,
    freeze: Annotated[
        Freeze, typer.Option(help="Stage up to which --weights stay as they are.")
    ] = TRAIN.freeze,
    augmentation: Annotated[
        str | None,
        typer.Option(
            help="auto (by category name), in-place (the same without shifts), none, or the name "
            "of another category.",
            show_default=_told("augmentation"),
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of normal images that select and calibrate the model.",
            show_default=_told("held_out"),
        ),
    ] = None,
    attention: option.AttentionOption = TRAIN.attention,
    target_layer: option.TargetLayer = TRAIN.layer,
    scores: option.ScoresOption = TRAIN.scores,
    threshold: Annotated[
        str, typer.Option(help="Rule: image-fpr=RATE, pixel-fpr=RATE, or max.")
    ] = TRAIN.threshold,
    seed: option.Seed = TRAIN.seed,
    workers: option.Workers = TRAIN.workers,
    device: option.Device = TRAIN.device,
    amp: Annotated[
        bool | None,
        typer.Option(
            "--amp/--no-amp",
            help="Compute in bfloat16, with sums and weights in float32.",
            show_default="with guidance, where the device multiplies bfloat16 faster",
        ),
    ] = TRAIN.amp,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")
    ] = TRAIN.resume,
    overwrite: option.Overwrite = TRAIN.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Learn the normal images of a category: writes OUTPUT/CATEGORY/model.safetensors."""
    from anomaly_cli.commands import train as command

    config = TrainConfig.resolve(
        dataset=dataset,
        guidance=guidance,
        fast=fast,
        data=data,
        category=category,
        output=output,
        epochs=epochs,
        images_seen=images_seen,
        half_size=half_size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        gradient_clip=gradient_clip,
        image_size=image_size,
        latent_dim=latent_dim,
        head=head,
        neck=neck,
        neck_stride=neck_stride,
        reconstruction=reconstruction,
        beta=beta,
        guidance_ratio=guidance_ratio,
        weights=weights,
        freeze=freeze,
        augmentation=augmentation,
        held_out=held_out,
        attention=attention,
        layer=target_layer,
        scores=scores,
        threshold=threshold,
        seed=seed,
        workers=workers,
        device=device,
        amp=amp,
        resume=resume,
        overwrite=overwrite,
    )
    values = default_options(config.guidance, dataset=dataset) | config.options()
    derived = {name: value for name, value in values.items() if name in _DERIVED}
    results = command.run(config, resolve_settings(ctx, derived))
    if json:
        console.print_json([row._asdict() | {"model": str(row.model)} for row in results])
        return
    console.show_training(results)
    console.note(f"next: anomaly-cli localize {results[-1].model} IMAGES...")
