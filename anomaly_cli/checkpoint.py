"""The file `train` leaves for the others: tensors and JSON in safetensors, never a pickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from anomaly_cli.calibration import EXCEEDANCE, Calibration, MapCalibration
from anomaly_cli.config.names import MODEL_FILE, Scores
from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.atomic import atomic_write, hash_file
from anomaly_cli.files.tensors import read_tensor_file, write_tensor_file
from anomaly_cli.fusion import Fusion, MapSettings, Trust
from anomaly_cli.networks import read_network, write_network
from anomaly_cli.score_scales import ScoreScale
from anomaly_cli.stored_statistics import read_statistics, statistics_tensors
from models.config import OneClassConfig
from models.networks import one_class_vae
from models.statistics import NormalStatistics
from models.vae import VAE

FORMAT_VERSION = 11
_KIND = "anomaly_cli"


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What a model file knows besides its weights."""

    category: str
    model: OneClassConfig
    statistics: NormalStatistics  # over the normal images that fit the model
    calibrations: Mapping[str, MapCalibration]  # by name of the map, see `maps.MapSpec`
    default_map: str
    default_threshold: str  # rule
    default_scores: Scores
    settings: MapSettings  # smoothing, and the scales of fused maps
    latent_kinds: tuple[str, ...]  # kind of drawn defect that each latent answers to most
    training: Mapping[str, Any]  # settings, seed, best epoch, versions; plain JSON values
    data: Mapping[str, Any]  # fingerprint and numbers of images; plain JSON values


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model file in memory, the network in eval mode on the CPU."""

    path: Path
    sha256: str  # of the file
    vae: VAE
    record: ModelRecord


def save_model(path: Path, weights: Mapping[str, Tensor], record: ModelRecord) -> None:
    """Write a model file. It holds no time or path: the same content gives the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"vae.{name}": tensor for name, tensor in weights.items()}
    tensors |= statistics_tensors(record.statistics)
    for name, calibration in record.calibrations.items():
        tensors |= _calibration_tensors(f"calibration.{name}", calibration)
    for name, fusion in record.settings.fusions.items():
        tensors |= _fusion_tensors(f"fusion.{name}", fusion)
    header = {
        "format_version": FORMAT_VERSION,
        "category": record.category,
        "model": write_network(record.model),
        "maps": sorted(record.calibrations),
        "default_map": record.default_map,
        "default_threshold": record.default_threshold,
        "default_scores": record.default_scores,
        "smoothing": record.settings.smoothing,
        "fusions": sorted(record.settings.fusions),
        "trusts": {name: list(trust) for name, trust in record.settings.trusts.items()},
        "latent_kinds": list(record.latent_kinds),
        "training": dict(record.training),
        "data": dict(record.data),
    }
    write_tensor_file(path, tensors, header, kind=_KIND)


def load_model(path: Path) -> LoadedModel:
    """Read a model file, or the `model.safetensors` of a run's folder.

    Raises:
        CheckpointError: it is missing, no model file, damaged, or of another version.
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
        record = _read_record(header, tensors)
        vae = one_class_vae(record.model)
        prefix = "vae."
        vae.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged or incomplete: {reason[:300]}") from error
    return LoadedModel(path=path, sha256=hash_file(path), vae=vae.eval(), record=record)


def _check_version(path: Path, header: Any) -> None:
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} was not written by anomaly-cli train")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this anomaly-cli reads {FORMAT_VERSION}"
        )


def _read_record(header: dict[str, Any], tensors: dict[str, Tensor]) -> ModelRecord:
    model = read_network(header["model"])
    calibrations = {name: _read_calibration(name, tensors) for name in header["maps"]}
    if header["default_map"] not in calibrations:
        raise KeyError(f"calibration of {header['default_map']}")
    return ModelRecord(
        category=header["category"],
        model=model,
        statistics=read_statistics(model, tensors),
        calibrations=calibrations,
        default_map=header["default_map"],
        default_threshold=header["default_threshold"],
        default_scores=header["default_scores"],
        settings=MapSettings(
            header["smoothing"],
            {name: _read_fusion(name, tensors) for name in header["fusions"]},
            {name: Trust(*parts) for name, parts in header["trusts"].items()},
        ),
        latent_kinds=tuple(header["latent_kinds"]),
        training=header["training"],
        data=header["data"],
    )


def _calibration_tensors(prefix: str, calibration: MapCalibration) -> dict[str, Tensor]:
    arrays = _parts(f"{prefix}.raw", calibration.raw, calibration.everywhere)
    if calibration.position is not None and calibration.position_scores is not None:
        arrays |= _parts(f"{prefix}.position", calibration.position_scores, calibration.position)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _parts(prefix: str, calibration: Calibration, scale: ScoreScale) -> dict[str, np.ndarray]:
    return {
        f"{prefix}.maxima": calibration.maxima,
        f"{prefix}.quantiles": calibration.quantiles,
        f"{prefix}.outline": np.array([calibration.outline], np.float64),
        f"{prefix}.mean": scale.mean,
        f"{prefix}.std": scale.std,
    }


def _read_calibration(name: str, tensors: dict[str, Tensor]) -> MapCalibration:
    raw, everywhere = _read_parts(f"calibration.{name}.raw", tensors)
    if f"calibration.{name}.position.mean" not in tensors:
        return MapCalibration(raw, everywhere)
    position_scores, position = _read_parts(f"calibration.{name}.position", tensors)
    return MapCalibration(raw, everywhere, position, position_scores)


def _read_parts(prefix: str, tensors: dict[str, Tensor]) -> tuple[Calibration, ScoreScale]:
    names = ("maxima", "quantiles", "outline", "mean", "std")
    maxima, quantiles, outline, mean, std = (tensors[f"{prefix}.{n}"].numpy() for n in names)
    if not len(maxima) or quantiles.shape != EXCEEDANCE.shape or mean.shape != std.shape:
        raise ValueError(f"{prefix} has the wrong size")
    return Calibration(maxima, quantiles, outline.item()), ScoreScale(mean, std)


def _fusion_tensors(prefix: str, fusion: Fusion) -> dict[str, Tensor]:
    return {
        f"{prefix}.{part}.{name}": torch.from_numpy(array)
        for part, scale in fusion._asdict().items()
        for name, array in scale._asdict().items()
    }


def _read_fusion(name: str, tensors: dict[str, Tensor]) -> Fusion:
    return Fusion(
        *(
            ScoreScale(*(tensors[f"fusion.{name}.{part}.{m}"].numpy() for m in ScoreScale._fields))
            for part in Fusion._fields
        )
    )


def save_training_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what `--resume` needs, complete or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as partial:
        torch.save(dict(state), partial)


def load_training_state(path: Path) -> dict[str, Any]:
    """Read what `save_training_state` wrote. No pickled object is ever built.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, so there is nothing to resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state)
    # torch raises EOFError, KeyError, RuntimeError, UnicodeDecodeError, UnpicklingError and more.
    except Exception as error:
        raise CheckpointError(f"{path} is not a training state, or is damaged") from error
