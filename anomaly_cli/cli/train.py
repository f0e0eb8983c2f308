"""Options of `train`."""

from typing import Annotated, Any

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.cli.configuration import resolve_settings
from anomaly_cli.config import TrainConfig
from anomaly_cli.defaults import (
    CHANNELS,
    DatasetName,
    Guidance,
    gains_by_half,
    preset_options,
    train_defaults,
)
from anomaly_cli.errors import ConfigError, require
from models.config import (
    Attention,
    Freeze,
    Head,
    Neck,
    OneClassConfig,
    OneClassConvConfig,
    Reconstruction,
    VAEConfig,
)

TRAIN, MODEL = TrainConfig(), VAEConfig()


def _told(name: str) -> str:
    """A default that depends on other options, in words."""
    guided = getattr(train_defaults("synthetic", is_fast=False), name)
    plain = getattr(train_defaults("none", is_fast=False), name)
    fast = getattr(train_defaults("synthetic", is_fast=True), name)
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

    given: dict[str, Any] = {
        "image_size": image_size,
        "neck": neck,
        "reconstruction": reconstruction,
        "beta": beta,
        "batch_size": batch_size,
        "epochs": epochs,
        "images_seen": 0 if epochs is not None and images_seen is None else images_seen,
        "half_size": half_size,
        "learning_rate": learning_rate,
        "augmentation": augmentation,
        "held_out": held_out,
    }
    given = {name: value for name, value in given.items() if value is not None}
    # Of the paper's experiments on small images.
    small = preset_options(dataset, {"guidance", "attention"})
    guidance = guidance or small.get("guidance", TRAIN.guidance)
    chosen = train_defaults(guidance, is_fast=fast, dataset=dataset)._replace(**given)
    has_neck = chosen.neck != "none"
    if attention is None and "attention" in small:
        attention = Attention(small["attention"])
    _refuse_strangers(dataset, guidance, head=head != MODEL.head, neck=has_neck, fast=fast)
    model = _model_config(
        dataset,
        latent_dim=latent_dim,
        head=head,
        neck_stride=neck_stride,
        **chosen.of_model,
    )
    if half_size is None and not gains_by_half(model):
        chosen = chosen._replace(half_size=0.0)
    config = TrainConfig(
        dataset=dataset,
        data=data,
        category=category,
        output=output,
        model=model,
        guidance=guidance,
        guidance_ratio=guidance_ratio,
        weights=weights,
        freeze=freeze,
        **chosen.of_training,
        gradient_clip=gradient_clip,
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
    derived = chosen._asdict() | {"guidance": guidance, "attention": attention}
    results = command.run(config, resolve_settings(ctx, derived))
    if json:
        console.print_json([row._asdict() | {"model": str(row.model)} for row in results])
        return
    console.show_training(results)
    console.note(f"next: anomaly-cli localize {results[-1].model} IMAGES...")


def _refuse_strangers(dataset: DatasetName, guidance: str, **given: bool) -> None:
    """Refuse what only ResNet18 knows where a data set has a network of its own."""
    if dataset in CHANNELS:
        for name, is_given in (given | {"guidance": guidance != "none"}).items():
            require(not is_given, f"--{name} has no place with --dataset {dataset}")


def _model_config(dataset: DatasetName, **settings: Any) -> OneClassConfig:
    try:
        if dataset in CHANNELS:
            shared = ("image_size", "latent_dim", "reconstruction", "beta")
            own = {name: settings[name] for name in shared}
            return OneClassConvConfig(channels=CHANNELS[dataset], **own)
        return VAEConfig(**settings)
    except ValueError as error:
        raise ConfigError(f"--{str(error).replace('_', '-', 1)}") from error
