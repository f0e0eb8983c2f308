"""Options of `train`."""

from shlex import quote
from typing import Annotated

import typer

from anomaly_cli.cli import options as option
from anomaly_cli.cli import terminal
from anomaly_cli.cli.addresses import with_local_inputs, with_local_output
from anomaly_cli.cli.processes import run_in_processes
from anomaly_cli.cli.sources import resolve_settings
from anomaly_cli.config.names import Guidance
from anomaly_cli.config.train import TrainConfig, default_options
from anomaly_cli.config.values import parse_rule
from models.config import (
    AnoGANConfig,
    AutoencoderConfig,
    DictionaryConfig,
    EncoderName,
    Features,
    Freeze,
    Head,
    MethodName,
    Neck,
    Reconstruction,
    VAEConfig,
)

TRAIN, MODEL = TrainConfig(), VAEConfig()
# Options for which settings.toml has the resolved value, not the given one.
_DERIVED = {
    *default_options(TRAIN.guidance),
    *("guidance", "attention", "latent_dim", "patch_size", "search_steps", "centres", "nearest"),
}


def _told(name: str) -> str:
    """Describe a default that depends on other options."""
    told = default_options("synthetic")[name]
    others = {
        "without guidance": default_options("none"),
        "with resnet18": default_options("synthetic", encoder="resnet18"),
        "with --fast": default_options("synthetic", speed="fast"),
        "with --thorough": default_options("synthetic", speed="thorough"),
    }
    differing = [
        f"{own[name]} {when}"
        for when, own in others.items()
        if own[name] != told and name != "encoder"
    ]
    return "; ".join([str(told), *differing])


def train(
    ctx: typer.Context,
    dataset: option.DatasetOption = TRAIN.dataset,
    method: Annotated[
        MethodName,
        typer.Option(
            help="vae: the paper's, with attention. The others are those that the paper compares "
            "itself with: autoencoders, AnoGAN, and a dictionary of CNN features."
        ),
    ] = "vae",
    category: option.Category = TRAIN.category,
    data: option.Data = TRAIN.data,
    output: option.OutputPlace = TRAIN.output,
    epochs: Annotated[
        int | None,
        typer.Option(help="Number of passes over the normal images.", show_default=_told("epochs")),
    ] = None,
    images_seen: Annotated[
        int | None,
        typer.Option(
            help="Least number of images over all epochs; more epochs are added to reach it.",
            show_default=f"{_told('images_seen')}; 0 with --epochs",
        ),
    ] = None,
    half_size: Annotated[
        float | None,
        typer.Option(
            help="Share of the epochs, from the start, on images of half the side, at a quarter of "
            "the cost.",
            show_default=f"{_told('half_size')}; 0 below 192 pixels",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Number of images per batch.", show_default=_told("batch_size")),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Highest learning rate of the one-cycle schedule.",
            show_default=_told("learning_rate"),
        ),
    ] = None,
    gradient_clip: Annotated[
        float, typer.Option(help="Largest norm of the gradient of the loss per pixel value.")
    ] = TRAIN.gradient_clip,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side of the network's input in pixels, a multiple of 32.",
            show_default=_told("image_size"),
        ),
    ] = None,
    encoder: Annotated[
        EncoderName | None,
        typer.Option(
            help="efficientnet-lite0: frozen, learned on ImageNet. resnet18: the paper's, trained "
            "with the VAE, or given by --weights.",
            show_default=f"{_told('encoder')}; resnet18 without guidance or with --weights",
        ),
    ] = None,
    latent_dim: Annotated[
        int | None,
        typer.Option(
            help="Number of latents.",
            show_default=f"{MODEL.latent_dim}; {AutoencoderConfig.latent_dim} with another "
            f"--method",
        ),
    ] = None,
    patch_size: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels of the overlapping patches that autoencoders and AnoGAN see; "
            "IMAGE_SIZE: the image as a whole.",
            show_default="half of --image-size for textures, the image as a whole for objects",
        ),
    ] = None,
    search_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps of AnoGAN's search for the latent of an image.",
            show_default=str(AnoGANConfig.search_steps),
        ),
    ] = None,
    centres: Annotated[
        int | None,
        typer.Option(
            help="Clusters of the feature dictionary.", show_default=str(DictionaryConfig.centres)
        ),
    ] = None,
    nearest: Annotated[
        int | None,
        typer.Option(
            help="Clusters of the dictionary whose mean distance is the anomaly map.",
            show_default=str(DictionaryConfig.nearest),
        ),
    ] = None,
    head: Annotated[
        Head,
        typer.Option(help="Reduction of the last activation: gap (global average) or flatten."),
    ] = MODEL.head,
    neck: Annotated[
        Neck | None,
        typer.Option(
            help="fpn: fuse the stages into one fine activation. none: as in the paper.",
            show_default=_told("neck"),
        ),
    ] = None,
    neck_stride: Annotated[
        int | None,
        typer.Option(
            help="Stride of the fused activation in pixels: 4 or 8.",
            show_default=_told("neck_stride"),
        ),
    ] = None,
    reconstruction: Annotated[
        Reconstruction | None,
        typer.Option(help="Reconstruction loss.", show_default=_told("reconstruction")),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL term.", show_default=_told("beta"))
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(
            help="Frozen ImageNet encoder whose nearest normal patches are a part of the map.",
            show_default=_told("features"),
        ),
    ] = None,
    guidance: Annotated[
        Guidance | None,
        typer.Option(
            help="synthetic: train the attention to find synthetic defects in normal images. "
            "none: train as in the paper.",
            show_default=f"{TRAIN.guidance}; none with --dataset mnist or ucsd",
        ),
    ] = None,
    guidance_ratio: Annotated[
        float,
        typer.Option(help="Weight of the guidance: its gradient relative to that of the VAE loss."),
    ] = TRAIN.guidance_ratio,
    fast: Annotated[
        bool, typer.Option("--fast", help="Use smaller images and fewer epochs by default.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Use larger images and more epochs by default.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="Initial weights of the encoder: none, imagenet, or a file.")
    ] = TRAIN.weights,
    freeze: Annotated[
        Freeze | None,
        typer.Option(
            help="Last encoder stage at which --weights are not trained.",
            show_default="layer4 with --weights: the whole encoder",
        ),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            help="Augmentation: auto (by category name), in-place (auto without shifts), none, or "
            "the name of another category.",
            show_default=_told("augmentation"),
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of normal images held out to select and calibrate the model.",
            show_default=_told("held_out"),
        ),
    ] = None,
    attention: option.AttentionOption = TRAIN.attention,
    target_layer: option.TargetLayer = TRAIN.layer,
    scores: option.ScoresOption = TRAIN.scores,
    threshold: Annotated[
        str, typer.Option(help="Rule of the threshold: image-fpr=RATE, pixel-fpr=RATE or max.")
    ] = str(TRAIN.threshold),
    seed: option.Seed = TRAIN.seed,
    workers: option.Workers = TRAIN.workers,
    device: option.Device = TRAIN.device,
    amp: Annotated[
        bool | None,
        typer.Option(
            "--amp/--no-amp",
            help="Compute in bfloat16, with sums and weights in float32.",
            show_default="with guidance, if bfloat16 is faster on the device",
        ),
    ] = TRAIN.amp,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training.")
    ] = TRAIN.resume,
    overwrite: option.Overwrite = TRAIN.overwrite,
    config_file: option.ConfigFile = None,
    preset: option.Preset = None,
    json: option.Json = False,
) -> None:
    """Train a model on the normal images of a category; write OUTPUT/CATEGORY/model.safetensors."""
    from anomaly_cli.cli.progress import TerminalProgress
    from anomaly_cli.cli.show.tables import show_training
    from anomaly_cli.commands import train as command

    config = TrainConfig.resolve(
        dataset=dataset,
        method=method,
        guidance=guidance,
        fast=fast,
        thorough=thorough,
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
        encoder=encoder,
        latent_dim=latent_dim,
        patch_size=patch_size,
        search_steps=search_steps,
        centres=centres,
        nearest=nearest,
        head=head,
        neck=neck,
        neck_stride=neck_stride,
        reconstruction=reconstruction,
        beta=beta,
        features=features,
        guidance_ratio=guidance_ratio,
        weights=weights,
        freeze=freeze,
        augmentation=augmentation,
        held_out=held_out,
        attention=attention,
        layer=target_layer,
        scores=scores,
        threshold=parse_rule(threshold),
        seed=seed,
        workers=workers,
        device=device,
        amp=amp,
        resume=resume,
        overwrite=overwrite,
    )
    values = config.options()
    if method == "vae":
        values = default_options(config.guidance, encoder=encoder, dataset=dataset) | values
    derived = {name: value for name, value in values.items() if name in _DERIVED}
    settings, progress = resolve_settings(ctx, derived), TerminalProgress()
    keeps = "" if category == "all" else category
    with with_local_output(with_local_inputs(config, progress), keeps=keeps) as own:
        results = run_in_processes(
            device,
            lambda: command.run(own, settings, progress),
            lambda team: command.run_in_team(own, team, settings, progress),
        )
    if results is None:
        return
    # A model was written to a working folder, if the output is an address.
    results = [row._replace(model=config.output / row.category / row.model.name) for row in results]
    if json:
        terminal.print_json([row._asdict() | {"model": str(row.model)} for row in results])
        return
    show_training(results)
    terminal.note(f"next: anomaly-cli localize {quote(str(results[-1].model))} IMAGES...")
