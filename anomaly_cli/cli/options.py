"""Options that several commands share: one name and one help text for each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly_cli.cli.sources import load_config, load_preset
from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.data import Photographs
from anomaly_cli.config.names import DATA_VARIABLE, DatasetName, MapSource, Scores
from anomaly_cli.config.presets import preset_names
from anomaly_cli.config.values import parse_outline, parse_threshold
from anomaly_cli.files.address import parse_place
from models.config import Attention, Layer

# Options that also take an address; the commands replace it by a local copy (`cli.addresses`).
Data = Annotated[
    Path,
    typer.Option(
        envvar=DATA_VARIABLE,
        parser=parse_place,
        metavar="<path>",
        help="Folder of the categories, in the layout of --dataset; or its address, s3://...",
    ),
]
DatasetOption = Annotated[
    DatasetName,
    typer.Option(
        "--dataset",
        help="Layout of --data. mnist: --category is a digit. ucsd: --category is UCSDped1 or "
        "UCSDped2. folder: your own images (docs/datasets.md).",
    ),
]
PhotographsOption = Annotated[
    Photographs,
    typer.Option("--dataset", help="Layout of --data. folder: your own images (docs/datasets.md)."),
]
Category = Annotated[str, typer.Option(help="Name of a category, or all.")]
Model = Annotated[
    Path,
    typer.Argument(
        parser=parse_place, help="Model file (model.safetensors), or its folder; or s3://..."
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders (searched recursively) or glob patterns; or s3://..."
    ),
]
Output = Annotated[Path, typer.Option(help="Folder to write to.")]
OutputPlace = Annotated[
    Path,
    typer.Option(
        parser=parse_place, metavar="<path>", help="Folder to write to; or its address, s3://..."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write into a folder that already holds files.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
BatchSize = Annotated[int, typer.Option(help="Number of images per batch.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes that read images.", show_default="0 on CPU, 4 on a GPU"),
]
Threads = Annotated[
    int, typer.Option(help="Number of threads that decode images, and of those that write.")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")]
AttentionOption = Annotated[
    Attention | None,
    typer.Option(
        help="Definition of the attention map.",
        show_default="the best on synthetic defects in held-out images",
    ),
]
TargetLayer = Annotated[
    Layer | None,
    typer.Option(
        "--target-layer", help="Encoder stage of the attention map.", show_default="last stage"
    ),
]
ScoresOption = Annotated[
    Scores,
    typer.Option(
        "--scores",
        help="Scale of the map. raw: unscaled. global: in standard deviations of held-out normal "
        "images over all pixels. position: the same per position (for aligned objects).",
    ),
]
Source = Annotated[
    MapSource | None,
    typer.Option(
        "--map",
        help="Anomaly map: fused (memory, appearance and attention), one of these (memory: "
        "distance from the nearest normal patch; appearance: local statistics, no network), or a "
        "baseline: reconstruction (|x - x^|), ssim or centre_prior.",
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
        help="Encoder stage of the attention map.",
        show_default="the model's",
    ),
]
ModelScores = Annotated[
    Scores | None,
    typer.Option(
        "--scores",
        help="Scale of the map. raw: unscaled. global: in standard deviations of held-out normal "
        "images over all pixels. position: the same per position (for aligned objects).",
        show_default="the model's",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        help="Threshold: a number, or a rule: image-fpr=RATE, pixel-fpr=RATE or max.",
        show_default="the model's",
    ),
]
Outline = Annotated[
    str | None,
    typer.Option(
        help="Map value at the edge of anomalous regions: a number, or threshold.",
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
        help="TOML file of settings; flags and environment variables override it.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        is_eager=True,
        callback=load_preset,
        autocompletion=preset_names,
        help="Named settings (list: anomaly-cli presets); all other sources override them.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def map_config(*, threshold: str | None, outline: str | None, **values: Any) -> MapConfig:
    """Build the settings that `localize`, `explain` and `evaluate` share."""
    return MapConfig(
        threshold=None if threshold is None else parse_threshold(threshold),
        outline=None if outline is None else parse_outline(outline),
        **values,
    )
