"""`evaluate`: trained models and their test splits -> metrics of each category, and a report."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly_cli import console
from anomaly_cli.config import MODEL_FILE, EvaluateConfig
from anomaly_cli.data.mvtec import TEXTURES, Sample, test_samples
from anomaly_cli.errors import CheckpointError, ConfigError, DataError
from anomaly_cli.files import prepare_output_folder
from anomaly_cli.images import read_mask, resize_mask
from anomaly_cli.localization import LocalizedImage, Localizer, localize_files, open_localizer
from anomaly_cli.metrics.confusion import Confusion, confusion
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import image_metrics, pixel_metrics
from anomaly_cli.reports import CategoryMetrics, EvaluationReport, write_reports


class ScoredImage(NamedTuple):
    """A test image's image-level score."""

    score: float
    is_anomalous: bool


def run(config: EvaluateConfig) -> EvaluationReport:
    """Score each model on the test split of its category and write the report."""
    models = _find_models(config)
    prepare_output_folder(config.output, overwrite=config.overwrite)
    rows = []
    for name, path in models.items():
        localizer = open_localizer(path, config.map)
        category = name or localizer.loaded.record.category
        rows.append(_evaluate_category(category, localizer, config))
    report = EvaluationReport(rows=tuple(rows))
    write_reports(config.output, report)
    return report


def _find_models(config: EvaluateConfig) -> dict[str, Path]:
    """Model file of each category; an empty name is the category that the model was trained on."""
    wanted = "" if config.category == "all" else config.category
    if config.model is not None:
        return {wanted: config.model}
    found = {p.parent.name: p for p in sorted(config.runs.glob(f"*/{MODEL_FILE}"))}
    if not found:
        raise CheckpointError(f"no {config.runs}/<category>/{MODEL_FILE}; run train first")
    if wanted and wanted not in found:
        raise ConfigError(f"no model of {wanted} under {config.runs}; found: {', '.join(found)}")
    return {wanted: found[wanted]} if wanted else found


def _evaluate_category(
    category: str, localizer: Localizer, config: EvaluateConfig
) -> CategoryMetrics:
    samples = test_samples(config.data, category)
    threshold = localizer.threshold
    counts, at_threshold, images = ExactCounts(), Confusion(), []
    with console.counting_progress(f"evaluating {category}", len(samples)) as advance:
        for sample, result in _localize_samples(samples, localizer, config):
            mask = _read_mask(sample, result.anomaly_map.shape)
            name = str(sample.path)
            counts.update(result.anomaly_map, mask, name=name)
            at_threshold += confusion(
                result.anomaly_map, mask, threshold=threshold.value, name=name
            )
            images.append(ScoredImage(result.score, sample.is_anomalous))
            advance()
    pixels = pixel_metrics(counts.ranking())
    scores = np.array([image.score for image in images])
    labels = np.array([image.is_anomalous for image in images])
    detection = image_metrics(scores, labels)
    called = scores > threshold.value
    return CategoryMetrics(
        category=category,
        kind="texture" if category in TEXTURES else "object",
        images=len(images),
        anomalous_images=int(labels.sum()),
        pixel_auroc=pixels.pixel_auroc,
        image_auroc=detection.image_auroc,
        aupro=pixels.aupro,
        average_precision=pixels.average_precision,
        best_f1=pixels.best_f1,
        best_iou=pixels.best_iou,
        best_iou_threshold=pixels.best_iou_threshold,
        iou=at_threshold.iou,
        precision=at_threshold.precision,
        recall=at_threshold.recall,
        threshold=threshold.value,
        threshold_rule=threshold.rule,
        image_false_positive_rate=float(called[~labels].mean()) if (~labels).any() else np.nan,
        image_recall=float(called[labels].mean()) if labels.any() else np.nan,
        map=str(localizer.spec),
        resolution=localizer.maker.size,
        model_sha256=localizer.loaded.sha256,
    )


def _localize_samples(
    samples: list[Sample], localizer: Localizer, config: EvaluateConfig
) -> Iterator[tuple[Sample, LocalizedImage]]:
    results = localize_files(
        [sample.path for sample in samples],
        localizer.maker,
        localizer.spec,
        batch_size=config.map.batch_size,
        workers=config.map.workers,
    )
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, DataError):
            raise result  # a metric over fewer images than the test split would be another metric
        yield sample, result


def _read_mask(sample: Sample, shape: tuple[int, ...]) -> np.ndarray:
    """Ground truth (S, S) bool at the network's size; empty for a normal image."""
    height, width = shape
    if sample.mask_path is None:
        return np.zeros((height, width), bool)
    mask = read_mask(sample.mask_path)
    if not mask.any():
        raise DataError(f"{sample.mask_path} marks nothing, but {sample.path} shows a defect")
    return resize_mask(mask, height, width)
