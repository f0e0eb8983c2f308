"""Anomaly maps saved by any tool as the source of an evaluation. Does not load torch."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from anomaly_cli.config.commands import EvaluateConfig
from anomaly_cli.config.values import NO_OUTLINE, ThresholdRule
from anomaly_cli.data.checks.doubts import find_doubts
from anomaly_cli.data.datasets import DATASETS, present_training_images
from anomaly_cli.data.samples import Sample
from anomaly_cli.data.saved_maps import find_mapped_categories, mapped_split, read_map
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.errors import ConfigError, DataError
from anomaly_cli.evaluation.images import CategorySource, DrawnMap, Sources
from anomaly_cli.files.atomic import fingerprint
from anomaly_cli.files.read import image_size


def find_maps(config: EvaluateConfig) -> Sources:
    """Find the saved maps of each category.

    Raises:
        ConfigError: an option does not fit saved maps, such as one that needs a model.
        DataError: there are no maps of the category.
    """
    maps = _maps_folder(config)
    threshold = _given_threshold(config)
    names = find_mapped_categories(config.data, maps, config.category)
    return {name: partial(_open_maps, name, maps, threshold, config) for name in names}


def _maps_folder(config: EvaluateConfig) -> Path:
    if config.maps is None:
        raise ConfigError("--maps names no folder")
    if config.model is not None or config.map.attention or config.map.layer:
        raise ConfigError("--maps needs no model: leave --model, --attention, --target-layer out")
    if config.dataset != "mvtec":
        raise ConfigError(f"--maps has the layout of MVTec AD, not of --dataset {config.dataset}")
    if config.resolution == "network":
        raise ConfigError("--maps has no network: saved maps are compared at their own size")
    return config.maps


def _given_threshold(config: EvaluateConfig) -> Threshold:
    outline = NO_OUTLINE if config.map.outline is None else config.map.outline
    if config.map.threshold is None:
        if config.map.outline is not None:
            raise ConfigError("--outline says how far regions reach above a --threshold; give both")
        return Threshold(float("nan"), "none", 0)
    value = config.map.threshold
    if isinstance(value, ThresholdRule):
        raise ConfigError(
            f"--threshold {value} needs held-out normal images, which only a model knows; "
            f"with --maps give a number"
        )
    return Threshold(value, "given", 0, outline)


def _open_maps(
    category: str, maps: Path, threshold: Threshold, config: EvaluateConfig
) -> CategorySource:
    split = mapped_split(config.data, maps, category, with_good=config.good)
    files = dict(zip(split.samples, split.paths, strict=True))

    def draw(samples: Sequence[Sample]) -> Iterator[DrawnMap]:
        for sample in samples:
            yield _read(files[sample], sample)

    trained = present_training_images(DATASETS["mvtec"], config.data, category)
    masks = [sample.mask_path for sample in split.samples if sample.mask_path]
    return CategorySource(
        category=category,
        samples=split.samples,
        draw=draw,
        threshold=threshold,
        map="saved maps",
        resolution=None,
        maps_sha256=fingerprint(split.paths, root=maps),
        data_sha256=fingerprint(masks, root=config.data),
        lacks="; ".join(find_doubts(split.samples, trained)),
    )


def _read(path: Path, sample: Sample) -> DrawnMap:
    anomaly_map = read_map(path)
    height, width = anomaly_map.shape
    if sample.path.is_file() and (size := image_size(sample.path)) != (height, width):
        raise DataError(
            f"{path} has {height} x {width} pixels, but {sample.path} has {size[0]} x {size[1]}"
        )
    return DrawnMap(anomaly_map, height, width, str(path))
