"""Compare the map of each model with simple baseline maps on the test split."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import BASELINES, MEMORY
from anomaly_cli.errors import ConfigError
from anomaly_cli.evaluation.images import CategorySource, Sources, count_images
from anomaly_cli.evaluation.metric_names import BESIDE_BASELINES, TITLES
from anomaly_cli.evaluation.results import CategoryMetrics
from anomaly_cli.evaluation.sources import find_models
from anomaly_cli.files.atomic import write_text
from anomaly_cli.files.tables import TABLE_FILES, NumberTable
from anomaly_cli.metrics.detection import PixelMetrics, image_metrics, pixel_metrics
from anomaly_cli.metrics.images import rank_pixels
from anomaly_cli.progress import SILENT, Progress

COLUMNS = (MEMORY, "attention", *BASELINES)
_IN_WORDS = (
    "memory: distance from the nearest normal patch. attention: that of the model alone. "
    "appearance: local brightness, contrast, edges and colour against those of normal images, "
    "without a network. "
    "reconstruction: |x - x^|. ssim: 1 - structural similarity of x and x^. "
    "centre_prior: a Gaussian in the middle, the same for all images."
)


class MapMetrics(NamedTuple):
    """Metrics of one map on one category; NaN where undefined."""

    pixels: PixelMetrics
    image_auroc: float


def measure(
    source: CategorySource, name: str, config: EvaluateConfig, progress: Progress = SILENT
) -> MapMetrics:
    """Compute the metrics of one map on the test split of its category.

    Args:
        source: the test split and its maps.
        name: of the map, shown in the progress bar.
        config: settings of the evaluation.
        progress: shows a bar with one step per image.

    Raises:
        DataError: a map, an image or a mask cannot be read, or their sizes differ.
    """
    pools, scores = [], []
    with progress.bar(f"{name} of {source.category}", total=len(source.samples)) as bar:
        for image in count_images(source, source.samples, config.image_score):
            pools.append(image.pixels.pixels)
            scores.append(image.score)
            bar.advance()
    labels = np.array([sample.is_anomalous for sample in source.samples])
    images = image_metrics(np.array(scores), labels)
    return MapMetrics(pixel_metrics(rank_pixels(pools)), images.image_auroc)


def write_baselines(
    rows: Sequence[CategoryMetrics], config: EvaluateConfig, progress: Progress = SILENT
) -> None:
    """Write a table that compares the map of each model with its parts and with baselines.

    The files are `baselines.json`, `.csv` and `.md`, as far as `config.formats` names them.

    Args:
        rows: metrics of the models' own maps.
        config: settings of the evaluation.
        progress: shows a bar for each map.

    Raises:
        OutputError: a file cannot be written.
    """
    table: dict[str, list[float]] = {
        f"{row.category}, {TITLES[metric]}": [getattr(row, metric)]
        for row in rows
        for metric in BESIDE_BASELINES
    }
    for name in COLUMNS:
        chosen = replace(config.map, source=name, attention=None, layer=None, scores="raw")  # type: ignore[arg-type]
        own = replace(config, map=chosen)
        sources = _find_if_there(own)
        for row in rows:
            found = _measure_if_there(sources.get(row.category), own, name, progress)
            for metric in BESIDE_BASELINES:
                table[f"{row.category}, {TITLES[metric]}"].append(found.get(metric, math.nan))
    maps = sorted({row.map for row in rows})
    numbers = NumberTable(
        title="The map of the model beside its parts, and baselines of the same model",
        corner="",
        columns=("the model's map", *COLUMNS),
        rows=table,
        notes=(f"The model's map: {', '.join(maps)}.", _IN_WORDS),
    )
    write_table("baselines", numbers, config)


def _find_if_there(config: EvaluateConfig) -> Sources:
    """Find the models; none where the one that is named has no such map."""
    try:
        return find_models(config)
    except ConfigError:
        return {}


def _measure_if_there(
    open_source: Callable[[], CategorySource] | None,
    config: EvaluateConfig,
    name: str,
    progress: Progress,
) -> dict[str, float]:
    """Measure one map of one category, by name of the metric; empty if there is no such map."""
    try:
        source = None if open_source is None else open_source()
    except ConfigError:
        source = None
    if source is None:
        return {}
    found = measure(source, name, config, progress)
    return {**found.pixels._asdict(), "image_auroc": found.image_auroc}


def write_table(stem: str, table: NumberTable, config: EvaluateConfig) -> None:
    """Write a table as JSON, CSV and Markdown, as far as `config.formats` names them.

    Args:
        stem: file name without suffix.
        table: the numbers.
        config: settings of the evaluation.

    Raises:
        OutputError: a file cannot be written.
    """
    for name in config.formats:
        if name in TABLE_FILES:
            suffix, render = TABLE_FILES[name]
            write_text(config.output / f"{stem}{suffix}", render(table))
