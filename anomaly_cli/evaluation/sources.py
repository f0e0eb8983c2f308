"""Trained models as the source of an evaluation: one per category, each opened when needed."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.names import MODEL_FILE
from anomaly_cli.data.checks.doubts import find_doubts
from anomaly_cli.data.datasets import (
    DATASETS,
    data_fingerprint,
    mask_gap,
    present_training_images,
)
from anomaly_cli.data.samples import GOOD, Sample, spread_samples
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.latents import name_latents
from anomaly_cli.errors import CheckpointError, ConfigError, DataError
from anomaly_cli.evaluation.images import CategorySource, DrawnMap, Sources
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.calibrate import open_detector


def find_models(config: EvaluateConfig, progress: Progress = SILENT) -> Sources:
    """Find the model of each category.

    Raises:
        CheckpointError: there is no model, or the one that is named cannot be read.
        ConfigError: there is no model of the category.
    """
    wanted = "" if config.category == "all" else config.category
    if config.model is not None:
        detector = open_detector(config.model, config.map, data=config.data, progress=progress)
        name = wanted or detector.category
        return {name: partial(_source, name, detector, config)}
    found = _trained(config, progress)
    if wanted and wanted not in found:
        raise ConfigError(f"no model of {wanted} under {config.runs}; found: {', '.join(found)}")
    chosen = {wanted: found[wanted]} if wanted else found
    return {
        name: partial(_open_model, name, path, config, progress) for name, path in chosen.items()
    }


def _trained(config: EvaluateConfig, progress: Progress) -> dict[str, Path]:
    """List the model files by category.

    A category without a model file, because its training stopped, is listed as well: it fails when
    it is opened.
    """
    folders = sorted(path for path in config.runs.glob("*") if path.is_dir())
    if config.dataset != "mvtec":  # the folder may also hold models of other data sets
        known = DATASETS[config.dataset].select_categories(config.data, "all")
        folders = [path for path in folders if path.name in {*known, config.category}]
    found = {path.name: path / MODEL_FILE for path in folders if (path / MODEL_FILE).is_file()}
    if not found:
        raise CheckpointError(f"no {config.runs}/<category>/{MODEL_FILE}; run train first")
    categories = {path.parent.name for path in config.data.glob("*/test") if path.is_dir()}
    unfinished = {p.name: p / MODEL_FILE for p in folders if p.name in categories - found.keys()}
    never = sorted(categories - found.keys() - unfinished.keys())
    if never and config.category == "all":
        progress.note(f"no model of {', '.join(never)} under {config.runs}: not evaluated")
    return dict(sorted((found | unfinished).items()))


def _open_model(
    category: str, path: Path, config: EvaluateConfig, progress: Progress
) -> CategorySource:
    detector = open_detector(path, config.map, data=config.data, progress=progress)
    return _source(category, detector, config)


def _source(category: str, detector: Detector, config: EvaluateConfig) -> CategorySource:
    dataset = DATASETS[config.dataset]
    samples = spread_samples(dataset.test_samples(config.data, category), config.limit)
    gap = mask_gap(samples)
    gaps = [*dataset.explain_gaps(config.data, category, samples), *([gap] if gap else [])]
    gaps += find_doubts(samples, present_training_images(dataset, config.data, category))
    samples = [sample for sample in samples if config.good or sample.defect_type != GOOD]

    def draw(chosen: Sequence[Sample]) -> Iterator[DrawnMap]:
        paths = [sample.path for sample in chosen]
        results = detector.predict_all(paths, decode=dataset.read_image)
        for sample, result in zip(chosen, results, strict=True):
            if isinstance(result, DataError):
                raise result  # a metric over fewer images is not comparable
            yield DrawnMap(result.network_map, result.height, result.width, str(sample.path))

    paths = [sample.path for sample in samples]
    masks = [sample.mask_path for sample in samples if sample.mask_path]
    return CategorySource(
        category=category,
        samples=samples,
        draw=draw,
        threshold=detector.threshold,
        map=detector.map_name,
        resolution=None if config.resolution == "original" else detector.network.image_size,
        mask_resizing=config.mask_resizing,
        colour_range=detector.colour_range,
        model_sha256=detector.sha256,
        data_sha256=data_fingerprint(dataset, paths, root=config.data, masks=masks),
        latents=name_latents(detector.latent_kinds) if detector.spec.has_latents else "",
        read=dataset.read_image,
        has_masks=not gap,
        lacks="; ".join(gaps),
    )
