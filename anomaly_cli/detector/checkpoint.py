"""The model file that `train` writes: tensors and JSON in safetensors, never a pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from anomaly_cli.config.names import MODEL_FILE, Scores
from anomaly_cli.config.values import ThresholdRule, parse_rule
from anomaly_cli.detector.calibration import MapCalibration
from anomaly_cli.detector.encoding import (
    calibration_tensors,
    read_calibration,
    read_network,
    read_scales,
    read_statistics,
    scales_tensors,
    statistics_tensors,
    write_network,
)
from anomaly_cli.detector.fusion import MapSettings
from anomaly_cli.detector.mapper import AnomalyMapper
from anomaly_cli.detector.maps import MapSpec, parse_map_spec
from anomaly_cli.detector.network_mapper import MappingNetwork, NetworkMapper
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.atomic import hash_file
from anomaly_cli.files.tensors import read_tensor_file, write_tensor_file
from models.build import build_network, with_weights
from models.config import OneClassConfig, OneClassVAEConfig, vae_config
from models.vae import VAE

FORMAT_VERSION = 12
CALIBRATIONS_FILE = "calibrations.safetensors"  # of further maps, beside a model file
_KIND = "anomaly_cli"
_MOST_IMAGES = 2**31
_WRONG = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError)
_CALIBRATIONS_KIND = "anomaly_cli_calibrations"


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Contents of a model file besides the weights."""

    category: str
    model: OneClassConfig
    # Of the normal images that a VAE was fitted to; None for other methods, whose networks hold
    # all that they have learned.
    statistics: NormalStatistics | None
    calibrations: Mapping[str, MapCalibration]  # by name of the map, see `maps.MapSpec`
    default_map: str
    default_threshold: ThresholdRule
    default_scores: Scores
    settings: MapSettings  # smoothing, and the scales of fused maps
    latent_kinds: tuple[str, ...]  # kind of synthetic defect that each latent responds to most
    training: Mapping[str, Any]  # settings, seed, best epoch, versions; plain JSON values
    data: Mapping[str, Any]  # fingerprint and numbers of images; plain JSON values


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model file in memory, with the network in eval mode on the CPU."""

    path: Path
    sha256: str  # of the file
    network: nn.Module  # the network of `record.model`, see `models.build.build_network`
    record: ModelRecord

    def mapper(self, device: torch.device, *, scale: ScoreScale | None = None) -> AnomalyMapper:
        """Make the mapper of the model.

        Args:
            device: where to compute.
            scale: turns the values of every map into scores; None leaves them as they are.
        """
        return make_mapper(
            self.network,
            self.record.statistics,
            self.record.model,
            device,
            settings=self.record.settings,
            scale=scale,
        )


def make_mapper(
    network: nn.Module,
    statistics: NormalStatistics | None,
    config: OneClassConfig,
    device: torch.device,
    *,
    settings: MapSettings | None = None,
    scale: ScoreScale | None = None,
) -> AnomalyMapper:
    """Make a mapper of a trained network.

    Args:
        network: the network of `config`; put into eval mode and moved to the device here.
        statistics: of normal images; None for methods other than the VAE.
        config: shape of the network.
        device: where to compute.
        settings: smoothing, scales and weights of fused maps.
        scale: turns the values of every map into scores; None leaves them as they are.
    """
    network = network.to(device).eval()
    if isinstance(network, VAE):
        assert statistics is not None  # noqa: S101 - a VAE has them
        return VAEMapper(
            network, statistics, config.image_size, device, settings=settings, scale=scale
        )
    mapping: MappingNetwork = network  # type: ignore[assignment]
    return NetworkMapper(mapping, config.image_size, device, settings=settings, scale=scale)


class NotCalibratedError(CheckpointError):
    """Raised for a model without a calibration of a map; `training.calibrate` computes it."""

    def __init__(self, loaded: LoadedModel, spec: MapSpec) -> None:
        super().__init__(
            f"{loaded.path} is not calibrated for {spec}; evaluate or localize it by command with "
            f"this map once, beside its training images"
        )
        self.loaded = loaded
        self.spec = spec


def save_model(path: Path, weights: Mapping[str, Tensor], record: ModelRecord) -> None:
    """Write a model file.

    The file holds no time and no path, so the same content gives the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"{record.model.method}.{name}": tensor for name, tensor in weights.items()}
    if record.statistics is not None:
        tensors |= statistics_tensors(record.statistics, vae_config(record.model))
    for name, calibration in record.calibrations.items():
        tensors |= calibration_tensors(f"calibration.{name}", calibration)
    tensors |= scales_tensors(record.settings.scales)
    header = {
        "format_version": FORMAT_VERSION,
        "category": record.category,
        "model": write_network(record.model),
        "maps": sorted(record.calibrations),
        "default_map": record.default_map,
        "default_threshold": str(record.default_threshold),
        "default_scores": record.default_scores,
        "smoothing": record.settings.smoothing,
        "fused_parts": list(record.settings.scales),
        "latent_kinds": list(record.latent_kinds),
        "training": dict(record.training),
        "data": dict(record.data),
    }
    write_tensor_file(path, tensors, header, kind=_KIND)


def load_model(path: Path) -> LoadedModel:
    """Read a model file, or the `model.safetensors` of a run's folder.

    Raises:
        CheckpointError: the file is missing, damaged, no model file, or of another version.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a {MODEL_FILE} that train wrote")
    try:
        header, tensors = read_tensor_file(path, kind=_KIND)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a model file, or is damaged ({error}); train writes {MODEL_FILE}"
        ) from error
    _check_version(path, header)
    try:
        _check_finite(tensors)
        record = _read_record(header, tensors)
        prefix = f"{record.model.method}."
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network = with_weights(partial(build_network, record.model), weights)
    except _WRONG as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged or incomplete: {reason[:300]}") from error
    return LoadedModel(path=path, sha256=hash_file(path), network=network.eval(), record=record)


def _check_version(path: Path, header: Any) -> None:
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} was not written by anomaly-cli train")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, and this anomaly-cli reads {FORMAT_VERSION}; "
            f"train the model anew"
        )


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse numbers that are not finite: a score of NaN would exceed no threshold.

    An outline of NaN is none.
    """
    for name, tensor in tensors.items():
        if not name.endswith(".outline") and not tensor.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")


def _read_record(header: dict[str, Any], tensors: dict[str, Tensor]) -> ModelRecord:
    model = read_network(header["model"])
    statistics = None
    if isinstance(model, OneClassVAEConfig):
        statistics = read_statistics(model, tensors)
    calibrations = {name: read_calibration(name, tensors) for name in header["maps"]}
    if header["default_map"] not in calibrations:
        raise KeyError(f"calibration of {header['default_map']}")
    spec = parse_map_spec(header["default_map"], model)
    missing = [str(part) for part in spec.parts if str(part) not in calibrations]
    if missing:
        raise KeyError(f"calibration of {missing[0]}")
    scores = header["default_scores"]
    if scores not in get_args(Scores):
        raise ValueError(f"default_scores must be one of {', '.join(get_args(Scores))}")
    return ModelRecord(
        category=_of_kind(header, "category", str),
        model=model,
        statistics=statistics,
        calibrations=calibrations,
        default_map=header["default_map"],
        default_threshold=parse_rule(header["default_threshold"]),
        default_scores=scores,
        settings=_read_settings(header, tensors, model, spec),
        latent_kinds=_read_kinds(header, model),
        training=_of_kind(header, "training", dict),
        data=_read_data(header, statistics),
    )


def _read_settings(
    header: Mapping[str, Any], tensors: dict[str, Tensor], model: OneClassConfig, spec: MapSpec
) -> MapSettings:
    smoothing = float(_of_kind(header, "smoothing", int | float))
    if not 0 <= smoothing <= model.image_size:
        raise ValueError(f"smoothing must be from 0 to {model.image_size} pixels")
    scales = read_scales(_of_kind(header, "fused_parts", list), tensors)
    missing = [name for name in spec.part_names if name not in scales]
    if missing:
        raise KeyError(f"fusion.{missing[0]}")
    return MapSettings(smoothing, scales)


def _read_kinds(header: Mapping[str, Any], model: OneClassConfig) -> tuple[str, ...]:
    kinds = tuple(map(str, _of_kind(header, "latent_kinds", list)))
    if kinds and len(kinds) != model.latents:
        raise ValueError(f"latent_kinds: one for each of {model.latents} latents expected")
    return kinds


def _of_kind(values: Mapping[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(values[name], kind):
        raise TypeError(f"{name} is {type(values[name]).__name__}")
    return values[name]


def _read_data(header: Mapping[str, Any], statistics: NormalStatistics | None) -> dict[str, Any]:
    """Read the numbers of images, and the names of those of a memory."""
    data: dict[str, Any] = _of_kind(header, "data", dict)
    for name in ("fit", "held_out", "held_out_parts"):
        if not 1 <= _of_kind(data, name, int) <= _MOST_IMAGES:
            raise ValueError(f"data.{name} must be positive")
    names = _of_kind({"memory_images": []} | data, "memory_images", list)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("data.memory_images must be names")
    memory = None if statistics is None else statistics.memory
    if memory is not None and int(memory.image.max()) >= len(names):
        raise ValueError(f"data.memory_images: {int(memory.image.max()) + 1} names expected")
    return data


def save_calibrations(loaded: LoadedModel, calibrations: Mapping[str, MapCalibration]) -> None:
    """Write calibrations of more maps beside a model file, which stays as it is.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, calibration in calibrations.items():
        tensors |= calibration_tensors(f"calibration.{name}", calibration)
    header = {"model_sha256": loaded.sha256, "maps": sorted(calibrations)}
    path = loaded.path.with_name(CALIBRATIONS_FILE)
    write_tensor_file(path, tensors, header, kind=_CALIBRATIONS_KIND)


def load_calibrations(loaded: LoadedModel) -> dict[str, MapCalibration]:
    """Read the calibrations beside a model file, by name of the map.

    The result is empty if their file is missing, damaged, or belongs to another model.
    """
    path = loaded.path.with_name(CALIBRATIONS_FILE)
    if not path.is_file():
        return {}
    try:
        header, tensors = read_tensor_file(path, kind=_CALIBRATIONS_KIND)
        if header["model_sha256"] != loaded.sha256:
            return {}
        _check_finite(tensors)
        return {name: read_calibration(name, tensors) for name in header["maps"]}
    # Calibrations can be computed again, so a damaged file counts as a missing one.
    except (SafetensorError, OSError, *_WRONG):
        return {}
