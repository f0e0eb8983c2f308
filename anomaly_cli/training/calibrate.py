"""Calibrations of a trained model on held-out normal images, and the record of its file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.toml import read_settings
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.calibration import MapCalibration, calibrate_map
from anomaly_cli.detector.checkpoint import (
    LoadedModel,
    ModelRecord,
    NotCalibratedError,
    load_calibrations,
    save_calibrations,
)
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.device import resolve_device
from anomaly_cli.detector.mapper import AnomalyMapper, map_images
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.masks import MarkedMap
from anomaly_cli.errors import CheckpointError, DataError, OutputError
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.dataset import TrainingSet, open_training_set, split_training_images
from anomaly_cli.training.methods import METHODS
from anomaly_cli.training.painted import painted_batches
from anomaly_cli.training.resume import fingerprint_images
from models.config import OneClassConfig


def describe_model(
    network: nn.Module,
    images: TrainingSet,
    config: TrainConfig,
    device: torch.device,
    *,
    training: Mapping[str, Any],
    data: Mapping[str, Any],
) -> ModelRecord:
    """Compute the contents of a model file besides the weights.

    Only normal images and synthetic defects are used. The chosen map and its parts are calibrated;
    `open_detector` calibrates the others when they are asked for.

    Args:
        network: with the trained weights.
        images: the training images and the held-out images.
        config: settings of the training.
        device: where to compute.
        training: settings and results of the training, plain JSON values.
        data: fingerprint and numbers of the images, plain JSON values.
    """
    known = METHODS[config.model.method].describe(network.eval(), images, config, device)
    calibrations = calibrate_maps(
        known.mapper, images, known.specs, config.network, batch_size=config.batch_size
    )
    return ModelRecord(
        category=config.category,
        model=config.network,
        statistics=known.statistics,
        calibrations=calibrations,
        default_map=str(known.specs[0]),
        default_scores=config.scores,
        default_threshold=config.threshold,
        settings=known.mapper.settings,
        latent_kinds=known.latent_kinds,
        training={**training, **known.training},
        data={**data, **known.data},
    )


def calibrate_maps(
    mapper: AnomalyMapper,
    images: TrainingSet,
    specs: Sequence[MapSpec],
    config: OneClassConfig,
    *,
    batch_size: int,
) -> dict[str, MapCalibration]:
    """Calibrate maps on held-out normal images, and their outlines on synthetic defects in these.

    Maps at earlier stages have no outline, because they cost up to 50 times as much as those at the
    last one.

    Args:
        mapper: computes the maps.
        images: the held-out images, with and without a synthetic defect.
        specs: the maps.
        config: shape of the network.
        batch_size: images at once.

    Returns:
        Calibrations by name of the map.
    """
    painted = [image for image in images.validation if image.mask.any()]
    own = images.own_numbers
    calibrations: dict[str, MapCalibration] = {}
    earlier, last = config.layers[:-1], config.layers[-1:]
    for layers in (earlier, last, (None,)):  # in turn, to keep few maps in memory
        of_layers = [spec for spec in specs if spec.layer in layers]
        marked = [] if layers is earlier else painted
        places = None if own is None else [image.number for image in marked]
        normal = map_images(mapper, images.held_out.batches(batch_size), of_layers, own)
        defects = map_images(mapper, painted_batches(marked, batch_size), of_layers, places)
        masks = [image.mask for image in marked]
        for spec in of_layers:
            grid = config.image_size // (1 if spec.layer is None else config.stride(spec.layer))
            pairs = [MarkedMap(*pair) for pair in zip(defects[spec], masks, strict=True)]
            calibrations[str(spec)] = calibrate_map(
                normal[spec], grid, pairs, is_halved=spec.is_halved
            )
    return calibrations


def open_detector(
    path: Path, config: MapConfig, *, data: Path | None = None, progress: Progress = SILENT
) -> Detector:
    """Load a model, and calibrate it for the map if it has no calibration for it yet.

    To calibrate, the training images are read once more. The result is written beside the model to
    `calibrations.safetensors`; the model file stays as it is.

    Args:
        path: the model file, or its folder.
        config: map, threshold, device.
        data: folder to find the training images in, before the one that the settings of the
            training name.
        progress: shows that a map is calibrated.

    Raises:
        CheckpointError: the model cannot be read, or its training images are not found.
        ConfigError: the model has no such map.
        DeviceError: the device is not available.
    """
    try:
        return Detector.open(path, config)
    except NotCalibratedError as error:
        return calibrate_model(error.loaded, error.spec, config, data=data, progress=progress)


def calibrate_model(
    loaded: LoadedModel,
    spec: MapSpec,
    config: MapConfig,
    *,
    data: Path | None = None,
    progress: Progress = SILENT,
) -> Detector:
    """Calibrate a model that was opened for a map without calibration; see `open_detector`.

    Args:
        loaded: the model.
        spec: the map.
        config: what it was opened with.
        data: folder to find the training images in first.
        progress: shows that a map is calibrated.
    """
    progress.note(f"{loaded.record.category}: calibrating {spec} on the held-out normal images")
    device = resolve_device(config.device)
    more = {
        **load_calibrations(loaded),
        **calibrate_late(loaded, [spec, *spec.parts], device, data),
    }
    try:
        save_calibrations(loaded, more)
    except OutputError as error:
        progress.warn(f"{error}; {spec} will be calibrated anew each time")
    record = replace(loaded.record, calibrations={**loaded.record.calibrations, **more})
    return Detector.of(replace(loaded, record=record), config, device)


def calibrate_late(
    loaded: LoadedModel, specs: Sequence[MapSpec], device: torch.device, data: Path | None = None
) -> dict[str, MapCalibration]:
    """Calibrate maps of a model on the normal images that its training held out.

    Args:
        loaded: the model.
        specs: the maps.
        device: where to compute.
        data: where the images may be, beside the folder that the settings of the training name.

    Returns:
        By name of the map.

    Raises:
        CheckpointError: the images are gone.
    """
    record = loaded.record
    images = _find_images(loaded, specs[0], data)
    return calibrate_maps(
        loaded.mapper(device),
        images,
        list(dict.fromkeys(specs)),
        record.model,
        batch_size=record.training["batch_size"],
    )


def _find_images(loaded: LoadedModel, spec: MapSpec, data: Path | None) -> TrainingSet:
    """Find and read the images that a model was trained on; their fingerprint must match.

    Raises:
        CheckpointError: they are not found.
    """
    record = loaded.record
    settings = read_settings(loaded.path.parent, "train")
    roots = [root for root in (data, settings.get("data")) if root is not None]
    for root in dict.fromkeys(map(Path, roots)):
        config = TrainConfig(
            dataset=record.training.get("dataset", "mvtec"),
            data=root,
            category=record.category,
            model=record.model,
            guidance="none",
            half_size=0.0,
            limit=record.data["images"],
            **{name: record.training[name] for name in ("held_out", "seed", "augmentation")},
        )
        try:
            split = split_training_images(config)
            if fingerprint_images(config, split) == record.data["fingerprint"]:
                return open_training_set(config)
        except DataError:
            continue
    places = " or ".join(str(root / record.category) for root in map(Path, roots)) or "any place"
    raise CheckpointError(
        f"{loaded.path} is not calibrated for {spec}, and the images that it was trained on are "
        f"not in {places}; put them back, or use the map {record.default_map}"
    )
