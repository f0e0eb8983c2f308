"""Statistics, choices and calibrations of trained weights, for the model file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

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
from anomaly_cli.detector.maps import MapSpec, fused_map, parts_of
from anomaly_cli.detector.masks import MarkedMap
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.normal.memory import PatchMemory, fit_memory
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.errors import CheckpointError, DataError, OutputError
from anomaly_cli.files.images import Mask
from anomaly_cli.progress import SILENT, Progress
from anomaly_cli.training.dataset import TrainingSet, open_training_set, split_training_images
from anomaly_cli.training.painted import PaintedImage, painted_batches
from anomaly_cli.training.pretrained import load_features
from anomaly_cli.training.resume import fingerprint_images
from anomaly_cli.training.selection import choose_appearance, choose_map
from models.config import OneClassConfig
from models.frozen import FrozenEncoder
from models.vae import VAE


def describe_model(
    vae: VAE,
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
        vae: with the trained weights.
        images: the training images and the held-out images.
        config: settings of the training.
        device: where to compute.
        training: settings and results of the training, plain JSON values.
        data: fingerprint and numbers of the images, plain JSON values.
    """
    batch, model = config.batch_size, config.network
    vae.eval()
    attention = fit_latents(
        vae.encoder,  # type: ignore[arg-type]
        images.fit.batches(batch),
    )
    appearance = choose_appearance(images, batch_size=batch)
    memory = _fit_memory(vae, images, config, device) if model.has_memory else None
    statistics = NormalStatistics(attention, appearance.normal, memory)
    if memory is not None:
        data = {**data, "memory_images": _names(images.split.fit, config)}
    mapper = AnomalyMapper(vae, statistics, model.image_size, device)
    chosen = choose_map(mapper, images, config)
    mapper.settings = chosen.settings
    fused = fused_map(model) if images.split.is_few else None  # `explain` needs latents
    wanted = [chosen.spec] if fused is None else [chosen.spec, fused]
    specs = list(dict.fromkeys([*wanted, *parts_of(wanted)]))
    return ModelRecord(
        category=config.category,
        model=model,
        statistics=statistics,
        calibrations=calibrate_maps(mapper, images, specs, model, batch_size=batch),
        default_map=str(chosen.spec),
        default_scores=config.scores,
        default_threshold=config.threshold,
        settings=chosen.settings,
        latent_kinds=_latent_kinds(mapper, chosen.spec, images.validation, batch_size=batch),
        training={
            **training,
            "appearance": appearance.way,
            "appearance_selection": {way: row._asdict() for way, row in appearance.scores.items()},
            "map_selection": {name: row._asdict() for name, row in chosen.scores.items()},
        },
        data=data,
    )


def _fit_memory(
    vae: VAE, images: TrainingSet, config: TrainConfig, device: torch.device
) -> PatchMemory:
    own = vae.encoder
    encoder = own.backbone if isinstance(own, FrozenEncoder) else load_features().to(device)
    batches = (part.batches(config.batch_size) for part in (images.fit, images.held_out))
    fit, held_out = ((batch.to(device) for batch in of_part) for of_part in batches)
    return fit_memory(
        encoder,
        fit,
        held_out,
        count=len(images.fit),
        seed=config.seed,
        is_few=images.split.is_few,
    )


def _names(paths: Sequence[Path], config: TrainConfig) -> list[str]:
    """Name training images relative to the folder of the category, or as they are."""
    root = config.data / config.category
    return [(p.relative_to(root) if p.is_relative_to(root) else p).as_posix() for p in paths]


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
    *earlier, last = config.layers
    for layers in (earlier, [last], [None]):  # in turn, to keep few maps in memory
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
    mapper = AnomalyMapper(
        loaded.vae, record.statistics, record.model.image_size, device, settings=record.settings
    )
    return calibrate_maps(
        mapper,
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


def _latent_kinds(
    mapper: AnomalyMapper, spec: MapSpec, validation: Sequence[PaintedImage], *, batch_size: int
) -> tuple[str, ...]:
    """Find the kind of synthetic defect to which each latent responds most, (D,).

    The response of a latent is the sum of its map over the defect, averaged over images. It is
    taken as a share of the responses of all latents, because kinds of defects differ in strength.
    The result is empty if the map is not made of latents, or if there are no synthetic defects.
    """
    painted = [image for image in validation if image.kind is not None]
    if not (spec.has_latents and painted):
        return ()
    part = spec.parts[0]  # attention
    responses: dict[str, list[NDArray[np.float64]]] = {}
    batches = painted_batches(painted, batch_size)
    maps = chain.from_iterable(mapper.with_latents(b, part).latent_maps.numpy() for b in batches)
    for image, of_image in zip(painted, maps, strict=True):
        weights = _shrink(image.mask, of_image.shape[1:])
        response = (of_image * weights).sum(axis=(1, 2), dtype=np.float64)
        responses.setdefault(str(image.kind), []).append(response / max(response.sum(), 1e-30))
    kinds = sorted(responses)
    table = np.stack([np.mean(responses[kind], axis=0) for kind in kinds])  # (kinds, D)
    return tuple(kinds[int(row)] for row in table.argmax(axis=0))


def _shrink(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Compute the share of the mask (H, W) in each position of a grid (h, w)."""
    height, width = shape
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(share, np.float32)
