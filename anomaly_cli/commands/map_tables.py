"""Several maps of the same models, scored beside each other on the test split."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from anomaly_cli import console
from anomaly_cli.commands.scoring import Sources
from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import BASELINES
from anomaly_cli.evaluation import CategorySource, count_images
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.tables import TABLE_FILES, NumberTable
from anomaly_cli.metrics.detection import PixelMetrics, image_metrics, pixel_metrics
from anomaly_cli.metrics.images import rank_pixels
from anomaly_cli.reports.results import CategoryMetrics
from anomaly_cli.reports.write import parse_formats
from anomaly_cli.scores import parse_image_score

FindModels = Callable[[EvaluateConfig], Sources]
_METRICS = ("pixel_auroc", "best_iou", "aupro", "image_auroc")
_NAMES = ("pixel AUROC", "best IoU (oracle)", "AU-PRO 0.3", "image AUROC")

_BASELINES_IN_WORDS = (
    "appearance: local brightness, contrast, edges and colour against those of normal images, "
    "without a network. context: the same against what the rest of the image lets expect. "
    "reconstruction: |x - x^|. ssim: 1 - structural similarity of x and x^. "
    "centre_prior: a Gaussian in the middle, the same for all images."
)


class MapMetrics(NamedTuple):
    """What one map reaches on one category; NaN is undefined."""

    pixels: PixelMetrics
    image_auroc: float


def measure(source: CategorySource, name: str, config: EvaluateConfig) -> MapMetrics:
    """Score the map of a source on its test split; `name` is shown meanwhile."""
    score = parse_image_score(config.image_score)
    pools, scores = [], []
    with console.counting_progress(f"{name} of {source.category}", len(source.samples)) as advance:
        for image in count_images(source, source.samples, score):
            pools.append(image.pixels.pixels)
            scores.append(image.score)
            advance()
    labels = np.array([sample.is_anomalous for sample in source.samples])
    images = image_metrics(np.array(scores), labels)
    return MapMetrics(pixel_metrics(rank_pixels(pools)), images.image_auroc)


def write_baselines(
    rows: Sequence[CategoryMetrics], config: EvaluateConfig, find_models: FindModels
) -> None:
    """Write `baselines.json`, `.csv` and `.md`: the map of each model beside what needs none.

    Args:
        rows: what the models' own maps reached.
        config: of the evaluation.
        find_models: opens the models with other settings of their maps.

    Raises:
        OutputError: a file cannot be written.
    """
    opened = {}
    for source in BASELINES:
        chosen = replace(config.map, source=source, attention=None, layer=None, scores="raw")  # type: ignore[arg-type]
        opened[source] = find_models(replace(config, map=chosen))
    table: dict[str, list[float]] = {}
    for row in rows:
        reached = {name: measure(opened[name][row.category](), name, config) for name in opened}
        for metric, told in zip(_METRICS, _NAMES, strict=True):
            of_baselines = [
                of_map.image_auroc if metric == "image_auroc" else getattr(of_map.pixels, metric)
                for of_map in reached.values()
            ]
            table[f"{row.category}, {told}"] = [getattr(row, metric), *of_baselines]
    maps = sorted({row.map for row in rows})
    numbers = NumberTable(
        title="The map of the model beside the baselines of the same model",
        corner="",
        columns=("the model's map", *BASELINES),
        rows=table,
        notes=(f"The model's map: {', '.join(maps)}.", _BASELINES_IN_WORDS),
    )
    write_table("baselines", numbers, config)


def write_table(stem: str, table: NumberTable, config: EvaluateConfig) -> None:
    """Write a table in those of the report's formats that tables have."""
    for name in parse_formats(config.formats):
        if name in TABLE_FILES:
            suffix, render = TABLE_FILES[name]
            write_text(config.output / f"{stem}{suffix}", render(table))
