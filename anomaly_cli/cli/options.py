"""Options that several commands share: one name and one help text for each."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly_cli.cli.configuration import load_config, load_preset
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.data import Photographs
from anomaly_cli.config.names import DATA_VARIABLE, DatasetName, MapSource, Scores
from anomaly_cli.config.presets import preset_names
from models.config import Attention, Layer

Data = Annotated[
    Path,
    typer.Option(
        envvar=DATA_VARIABLE, help="Folder of the categories, in the layout of --dataset."
    ),
]
DatasetOption = Annotated[
    DatasetName,
    typer.Option(
        "--dataset",
        help="Layout of --data. mnist: --category is a digit. ucsd: UCSDped1 or UCSDped2. folder: "
        "your own images, see docs/datasets.md.",
    ),
]
PhotographsOption = Annotated[
    Photographs,
    typer.Option(
        "--dataset", help="Layout of --data. folder: your own images, see docs/datasets.md."
    ),
]
Category = Annotated[str, typer.Option(help="Name of a category, or all.")]
Model = Annotated[Path, typer.Argument(help="model.safetensors, or the folder that holds it.")]
Images = Annotated[list[str], typer.Argument(help="Files, folders (recursive) or globs.")]
Output = Annotated[Path, typer.Option(help="Folder to write to.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write into a folder that already holds something.")
]
Seed = Annotated[int, typer.Option(min=0, help="Fixes every random draw.")]
BatchSize = Annotated[int, typer.Option(help="Images at a time.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that read images.", show_default="0 on CPU, 4 on a GPU"),
]
Threads = Annotated[int, typer.Option(help="Threads that decode, and as many that write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
AttentionOption = Annotated[
    Attention | None,
    typer.Option(
        help="Definition of the attention map.",
        show_default="the best on defects drawn into held-out images",
    ),
]
TargetLayer = Annotated[
    Layer | None,
    typer.Option("--target-layer", help="Encoder stage it reads.", show_default="the last one"),
]
ScoresOption = Annotated[
    Scores,
    typer.Option(
        "--scores",
        help="raw: the map. global or position: standard deviations from held-out normal images, "
        "over all pixels or at the same place (for aligned objects).",
    ),
]
Source = Annotated[
    MapSource | None,
    typer.Option(
        "--map",
        help="attention, a baseline (appearance: local statistics without a network; context: how "
        "they fit the rest of the image; reconstruction: the plain |x - x^|; ssim; centre_prior), "
        "or fused (attention, appearance, context and reconstruction).",
        show_default="the model's",
    ),
]
ModelAttention = Annotated[
    Attention | None,
    typer.Option(
        help="Definition of the attention map.",
        show_default="the model's",
    ),
]
ModelTargetLayer = Annotated[
    Layer | None,
    typer.Option(
        "--target-layer",
        help="Encoder stage it reads.",
        show_default="the model's",
    ),
]
ModelScores = Annotated[
    Scores | None,
    typer.Option(
        "--scores",
        help="raw: the map. global or position: standard deviations from held-out normal images.",
        show_default="the model's",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        help="A number, or a rule: image-fpr=RATE, pixel-fpr=RATE, max.", show_default="the model's"
    ),
]
Outline = Annotated[
    str | None,
    typer.Option(
        help="Map value at which an anomalous region ends: a number, or threshold.",
        show_default="the model's",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=load_config,
        help="TOML file of settings; flags and the environment win over it.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        is_eager=True,
        callback=load_preset,
        autocompletion=preset_names,
        help="Settings that come with the tool, see anomaly-cli presets; all others win over it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def map_config(*values: Any) -> MapConfig:
    """The settings that `localize` and `evaluate` share, in the order of the fields."""
    names = [field.name for field in dataclasses.fields(MapConfig)]
    return MapConfig(**dict(zip(names, values, strict=True)))
