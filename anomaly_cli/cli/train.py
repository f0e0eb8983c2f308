"""Options of `train`."""

from typing import Annotated, Any

import typer

from anomaly_cli import console
from anomaly_cli.cli import options as option
from anomaly_cli.config import TrainConfig
from anomaly_cli.errors import ConfigError
from models.config import Head, Neck, Reconstruction, VAEConfig

TRAIN, MODEL = TrainConfig(), VAEConfig()


def train(
    category: option.Category = TRAIN.category,
    data: option.Data = TRAIN.data,
    output: option.Output = TRAIN.output,
    epochs: Annotated[int, typer.Option(help="Passes over the normal images.")] = TRAIN.epochs,
    batch_size: option.BatchSize = TRAIN.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Peak of the one-cycle schedule.")
    ] = TRAIN.learning_rate,
    gradient_clip: Annotated[
        float, typer.Option(help="Largest norm of the gradient of the loss per pixel value.")
    ] = TRAIN.gradient_clip,
    image_size: Annotated[
        int, typer.Option(help="Side in pixels, a multiple of 32.")
    ] = MODEL.image_size,
    latent_dim: Annotated[int, typer.Option(help="Number of latents.")] = MODEL.latent_dim,
    head: Annotated[
        Head, typer.Option(help="What lies between the last activation and the posterior.")
    ] = MODEL.head,
    neck: Annotated[
        Neck, typer.Option(help="fpn: fuse the stages into one fine activation. none: the paper's.")
    ] = MODEL.neck,
    neck_stride: Annotated[
        int, typer.Option(help="Pixels per position of the fused activation: 4 or 8.")
    ] = MODEL.neck_stride,
    reconstruction: Annotated[
        Reconstruction, typer.Option(help="Misfit of the decoder.")
    ] = MODEL.reconstruction,
    beta: Annotated[float, typer.Option(help="Weight of the KL term.")] = MODEL.beta,
    weights: Annotated[
        str, typer.Option(help="Encoder before training: none, imagenet, or a file.")
    ] = TRAIN.weights,
    augmentation: Annotated[
        str, typer.Option(help="auto (by category name), none, or the name of another category.")
    ] = TRAIN.augmentation,
    held_out: Annotated[
        float, typer.Option(help="Share of normal images that select and calibrate the model.")
    ] = TRAIN.held_out,
    attention: option.AttentionOption = TRAIN.attention,
    target_layer: option.TargetLayer = TRAIN.layer,
    scores: option.ScoresOption = TRAIN.scores,
    threshold: Annotated[
        str, typer.Option(help="Rule: image-fpr=RATE, pixel-fpr=RATE, or max.")
    ] = TRAIN.threshold,
    seed: option.Seed = TRAIN.seed,
    workers: option.Workers = TRAIN.workers,
    device: option.Device = TRAIN.device,
    amp: Annotated[bool, typer.Option("--amp", help="bfloat16 autocast.")] = TRAIN.amp,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")
    ] = TRAIN.resume,
    overwrite: option.Overwrite = TRAIN.overwrite,
    json: option.Json = False,
) -> None:
    """Learn the normal images of a category: writes OUTPUT/CATEGORY/model.safetensors."""
    from anomaly_cli.commands import train as command

    config = TrainConfig(
        data=data,
        category=category,
        output=output,
        model=_model_config(
            image_size=image_size,
            latent_dim=latent_dim,
            head=head,
            neck=neck,
            neck_stride=neck_stride,
            reconstruction=reconstruction,
            beta=beta,
        ),
        weights=weights,
        augmentation=augmentation,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        gradient_clip=gradient_clip,
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
    results = command.run(config)
    if json:
        console.print_json([row._asdict() | {"model": str(row.model)} for row in results])
        return
    console.show_training(results)
    console.note(f"next: anomaly-cli localize {results[-1].model} IMAGES...")


def _model_config(**settings: Any) -> VAEConfig:
    try:
        return VAEConfig(**settings)
    except ValueError as error:
        raise ConfigError(f"--{str(error).replace('_', '-', 1)}") from error
