"""The whole command line in one view: options in, exit code out. Loads no torch by itself."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import anomaly_cli
from anomaly_cli import cli_options as option
from anomaly_cli import console
from anomaly_cli.config import (
    EvaluateConfig,
    LocalizeConfig,
    MapConfig,
    SampleConfig,
    TrainConfig,
)
from anomaly_cli.errors import AnomalyCliError, ConfigError, DataError
from models.config import Head, Reconstruction, VAEConfig

SAMPLE = SampleConfig(destination=Path("data/sample"))
TRAIN, MODEL, MAP = TrainConfig(), VAEConfig(), MapConfig()
LOCALIZE = LocalizeConfig(model=Path(), images=())
EVALUATE = EvaluateConfig()


class _Group(TyperGroup):
    """The only place where errors become exit codes; any other exception is a bug."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AnomalyCliError as error:
            if ctx.params.get("debug"):
                raise
            console.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            console.error("interrupted; what was complete is kept")
            raise typer.Exit(INTERRUPTED) from None


INTERRUPTED = 130  # 128 + SIGINT, as shells say it

app = typer.Typer(
    name="anomaly-cli",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 data, 4 model file, 5 output, 6 device, "
    "7 training diverged, 10 gate not met, 130 interrupted.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"anomaly-cli {anomaly_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    debug: Annotated[  # noqa: ARG001 - read by the group
        bool, typer.Option("--debug", help="Show the traceback of errors.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - the callback prints and ends
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """Learn what a normal product looks like and show where a new image departs from it."""
    console.configure(quiet=quiet)


@app.command()
def sample(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to write to.")],
    category: Annotated[str, typer.Option(help="brick, grass, gravel, or all.")] = SAMPLE.category,
    image_size: Annotated[int, typer.Option(help="Side in pixels.")] = SAMPLE.image_size,
    count: Annotated[int, typer.Option(help="Normal training images.")] = SAMPLE.count,
    seed: option.Seed = SAMPLE.seed,
    overwrite: option.Overwrite = SAMPLE.overwrite,
    json: option.Json = False,
) -> None:
    """Write a small MVTec-layout data set with exact masks, made from real photographs."""
    from anomaly_cli.commands import sample as command

    config = SampleConfig(
        destination=destination,
        category=category,
        image_size=image_size,
        count=count,
        seed=seed,
        overwrite=overwrite,
    )
    result = command.run(config)
    if json:
        console.print_json({"categories": [row._asdict() for row in result.categories]})
        return
    console.show_samples(result)
    console.note(f"next: anomaly-cli train --data {destination} --category {category}")


@app.command()
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
        Head, typer.Option(help="What lies between layer4 and the posterior.")
    ] = MODEL.head,
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


@app.command()
def localize(
    model: Annotated[Path, typer.Argument(help="model.safetensors, or the folder that holds it.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders (recursive) or globs.")],
    output: option.Output = LOCALIZE.output,
    maps: Annotated[bool, typer.Option(help="float32 TIFF anomaly maps.")] = LOCALIZE.maps,
    heatmaps: Annotated[
        bool, typer.Option(help="Colour pictures of the maps.")
    ] = LOCALIZE.heatmaps,
    overlays: Annotated[
        bool, typer.Option(help="The image under its heat, with the contour of the mask.")
    ] = LOCALIZE.overlays,
    masks: Annotated[bool, typer.Option(help="Binary masks, 0 and 255.")] = LOCALIZE.masks,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    threshold: option.Threshold = MAP.threshold,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = LOCALIZE.overwrite,
    json: option.Json = False,
) -> None:
    """Show where images depart from normal: maps, heatmaps, overlays, masks and a manifest."""
    from anomaly_cli.commands import localize as command

    config = LocalizeConfig(
        model=model,
        images=tuple(images),
        output=output,
        map=_map_config(source, attention, target_layer, threshold, batch_size, workers, device),
        maps=maps,
        heatmaps=heatmaps,
        overlays=overlays,
        masks=masks,
        overwrite=overwrite,
    )
    result = command.run(config)
    if json:
        console.print_json(result.records)
    else:
        console.show_localization(result)
    if result.failed:
        raise typer.Exit(DataError.exit_code)


@app.command()
def evaluate(
    model: Annotated[
        Path | None, typer.Option(help="One model, instead of all models of --runs.")
    ] = EVALUATE.model,
    runs: Annotated[Path, typer.Option(help="What train wrote.")] = EVALUATE.runs,
    data: option.Data = EVALUATE.data,
    category: option.Category = EVALUATE.category,
    output: option.Output = EVALUATE.output,
    source: option.Source = MAP.source,
    attention: option.ModelAttention = MAP.attention,
    target_layer: option.ModelTargetLayer = MAP.layer,
    threshold: option.Threshold = MAP.threshold,
    batch_size: option.BatchSize = MAP.batch_size,
    workers: option.Threads = MAP.workers,
    device: option.Device = MAP.device,
    overwrite: option.Overwrite = EVALUATE.overwrite,
    json: option.Json = False,
) -> None:
    """Score models on their test splits: pixel and image ROC AUC, IoU, AU-PRO, and a report."""
    from anomaly_cli.commands import evaluate as command
    from anomaly_cli.reports import to_json

    config = EvaluateConfig(
        model=model,
        runs=runs,
        data=data,
        category=category,
        output=output,
        map=_map_config(source, attention, target_layer, threshold, batch_size, workers, device),
        overwrite=overwrite,
    )
    report = command.run(config)
    if json:
        console.print_json(to_json(report))
    else:
        console.show_evaluation(report)
        console.note(f"written to {output} (report.json, report.csv)")


def _map_config(*values: Any) -> MapConfig:
    names = [field.name for field in dataclasses.fields(MapConfig)]
    return MapConfig(**dict(zip(names, values, strict=True)))


def main() -> None:
    """Entry point of the console script."""
    app()
