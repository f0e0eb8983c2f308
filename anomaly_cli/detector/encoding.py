"""Conversion of a model to the named tensors and JSON values of its file, and back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly_cli.detector.calibration import EXCEEDANCE, Calibration, MapCalibration
from anomaly_cli.detector.fusion import Scales
from anomaly_cli.detector.normal.appearance import (
    GRID,
    KINDS,
    NEAR,
    WIDE,
    NormalAppearance,
    PlaceAppearance,
    count_statistics,
)
from anomaly_cli.detector.normal.memory import STAGES, PatchMemory
from anomaly_cli.detector.normal.mixture import Mixture
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.scales import ScoreScale
from models.config import (
    AnoGANConfig,
    AutoencoderConfig,
    DictionaryConfig,
    OneClassConfig,
    OneClassConvConfig,
    OneClassVAEConfig,
    VAEConfig,
)
from models.efficientnet import CHANNELS, EfficientNetLite0
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics

_NETWORKS: Mapping[str, Callable[..., OneClassConfig]] = {
    "conv": OneClassConvConfig,
    "autoencoder": AutoencoderConfig,
    "anogan": AnoGANConfig,
    "dictionary": DictionaryConfig,
}


def statistics_tensors(statistics: NormalStatistics, model: OneClassVAEConfig) -> dict[str, Tensor]:
    """Convert the statistics of normal images to named tensors.

    The network of a memory is left out where it is the frozen encoder of the VAE.
    """
    attention = statistics.attention
    parts = {f"latent.{name}": part for name, part in attention.latent._asdict().items()}
    for prefix, own in (
        ("local", attention.local),
        ("appearance", statistics.appearance),
    ):
        if own is not None:
            items = own._asdict().items()
            parts |= {f"{prefix}.{name}": part for name, part in items if part is not None}
    if statistics.memory is not None:
        encoder, *places = statistics.memory
        names = PatchMemory._fields[1:]
        parts |= {f"memory.{name}": part for name, part in zip(names, places, strict=True)}
        if not model.has_frozen_encoder:
            parts |= {f"memory.encoder.{name}": part for name, part in encoder.state_dict().items()}
    return {f"statistics.{name}": part for name, part in parts.items()}


def read_statistics(model: OneClassVAEConfig, tensors: Mapping[str, Tensor]) -> NormalStatistics:
    """Read the statistics of normal images that `statistics_tensors` has named.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor does not have the shape that the network needs.
    """
    latent = LatentStatistics(
        *(tensors[f"statistics.latent.{name}"] for name in LatentStatistics._fields)
    )
    if any(len(_floats(part, 1)) != model.latent_dim for part in latent):
        raise ValueError(f"statistics.latent of {model.latent_dim} latents expected")
    if (latent.variance < 0).any():
        raise ValueError("statistics.latent.variance must not be negative")
    local = _read_local(model, tensors, "statistics.local")
    memory = _read_memory(model, tensors) if model.has_memory else None
    return NormalStatistics(
        AttentionStatistics(latent, local), _read_appearance(model, tensors), memory
    )


def _read_memory(model: OneClassVAEConfig, tensors: Mapping[str, Tensor]) -> PatchMemory:
    prefix = "statistics.memory."
    own = "vae.encoder.backbone." if model.has_frozen_encoder else f"{prefix}encoder."
    encoder = EfficientNetLite0()
    encoder.load_state_dict(
        {n.removeprefix(own): part for n, part in tensors.items() if n.startswith(own)}
    )
    memory = PatchMemory(
        encoder.eval(), *(tensors[prefix + name] for name in PatchMemory._fields[1:])
    )
    numbers = [memory.image, memory.row, memory.column]
    if any(part.dtype != torch.int64 or (part < 0).any() for part in numbers):
        raise ValueError(f"{prefix}: places from 0 expected")
    if _floats(memory.scale, 0) <= 0:
        raise ValueError(f"{prefix}scale must be positive")
    width = sum(CHANNELS[stage] for stage in STAGES)
    count = len(_floats(memory.patches, 2))
    if memory.patches.shape[1] != width or not count:
        raise ValueError(f"{prefix}patches: one patch or more of {width} features expected")
    if any(part.shape != (count,) for part in numbers):
        raise ValueError(f"{prefix}: a place of each of the {count} patches expected")
    return memory


def _floats(tensor: Tensor, dimensions: int) -> Tensor:
    """Require a tensor of floats with this number of dimensions.

    Raises:
        ValueError: it is of another kind.
    """
    if tensor.dtype not in {torch.float32, torch.float64} or tensor.dim() != dimensions:
        raise ValueError(
            f"floats of {dimensions} dimensions expected, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    return tensor


def _read_appearance(model: OneClassVAEConfig, tensors: Mapping[str, Tensor]) -> NormalAppearance:
    prefix = "statistics.appearance."
    kind = Mixture if f"{prefix}rarity" in tensors else PlaceAppearance
    seen = kind(*(tensors[prefix + name] for name in kind._fields))
    counts = [len(reaches) * len(KINDS) for reaches in (NEAR, WIDE)]
    grid = tuple(seen.mean.shape[:1] if isinstance(seen, Mixture) else seen.mean.shape[1:])
    count = count_statistics(seen) if seen.mean.dim() > 1 else 0
    if count not in counts or seen.whitening.shape != (*grid, count, count):
        raise ValueError(f"{' or '.join(map(str, counts))} statistics of appearance expected")
    if isinstance(seen, Mixture):
        if seen.rarity.shape != grid or not seen.rarity.numel():
            raise ValueError(f"a rarity of each of {grid[0]} kinds of places expected")
    elif grid != 2 * (min(GRID, model.image_size),):
        raise ValueError(f"{prefix}mean of each place of an image expected, got {grid}")
    for part in seen:
        _floats(part, part.dim())
    return seen


def _read_local(
    model: OneClassVAEConfig, tensors: Mapping[str, Tensor], prefix: str
) -> LocalStatistics | None:
    if f"{prefix}.mean" not in tensors:
        return None
    *names, whitening = (f"{prefix}.{name}" for name in LocalStatistics._fields)
    moments = [tensors[name] for name in names]
    local = LocalStatistics(*moments, tensors.get(whitening))  # type: ignore[call-arg]
    side = model.image_size // model.stride(model.layers[-1])
    square = (side, side, model.latent_dim, model.latent_dim)
    for name, part in zip(names, moments, strict=True):
        expected = (model.latent_dim, side, side)[: 1 if "pooled" in name else 3]
        if _floats(part, len(expected)).shape != expected:
            raise ValueError(f"{name} of shape {expected} expected, for {model.latent_dim} latents")
    if local.whitening is not None and local.whitening.shape != square:
        raise ValueError(f"{whitening} of shape {square} expected")
    return local


def calibration_tensors(prefix: str, calibration: MapCalibration) -> dict[str, Tensor]:
    """Convert the calibration of one map to named tensors."""
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


def read_calibration(name: str, tensors: Mapping[str, Tensor]) -> MapCalibration:
    """Read the calibration of the map `name`, see `calibration_tensors`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor has the wrong size.
    """
    raw, everywhere = _read_parts(f"calibration.{name}.raw", tensors)
    if f"calibration.{name}.position.mean" not in tensors:
        return MapCalibration(raw, everywhere)
    position_scores, position = _read_parts(f"calibration.{name}.position", tensors)
    return MapCalibration(raw, everywhere, position, position_scores)


def _read_parts(prefix: str, tensors: Mapping[str, Tensor]) -> tuple[Calibration, ScoreScale]:
    names = ("maxima", "quantiles", "outline", "mean", "std")
    parts = [tensors[f"{prefix}.{name}"] for name in names]
    maxima, quantiles, outline, mean, std = (
        _floats(part, dimensions).numpy()
        for part, dimensions in zip(parts, (1, 1, 1, 2, 2), strict=True)
    )
    if (std <= 0).any():
        raise ValueError(f"{prefix}.std must be positive")
    if (
        not len(maxima)
        or not std.size
        or quantiles.shape != EXCEEDANCE.shape
        or mean.shape != std.shape
    ):
        raise ValueError(f"{prefix} has the wrong size")
    return Calibration(maxima, quantiles, outline.item()), ScoreScale(mean, std)


def scales_tensors(scales: Scales) -> dict[str, Tensor]:
    """Convert the scales of the parts of a fused map to named tensors."""
    return {
        f"fusion.{part}.{name}": torch.from_numpy(array)
        for part, scale in scales.items()
        for name, array in scale._asdict().items()
    }


def read_scales(parts: Iterable[str], tensors: Mapping[str, Tensor]) -> Scales:
    """Read the scales of the named parts of a fused map, see `scales_tensors`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor has the wrong size, or a standard deviation is not positive.
    """
    scales = {
        part: ScoreScale(
            *(_floats(tensors[f"fusion.{part}.{field}"], 2).numpy() for field in ScoreScale._fields)
        )
        for part in parts
    }
    for part, scale in scales.items():
        if any(own.shape != (1, 1) for own in scale) or scale.std.item() <= 0:
            raise ValueError(f"fusion.{part}: one mean and one positive deviation expected")
    return scales


def write_network(config: OneClassConfig) -> dict[str, Any]:
    """Convert the settings of a network to JSON values.

    `VAEConfig` has no key `network`, because it was once the only one.
    """
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(config).items()}
    names = [name for name, kind in _NETWORKS.items() if type(config) is kind]
    return {"network": names[0]} | values if names else values


def read_network(values: Mapping[str, Any]) -> OneClassConfig:
    """Read the settings of a network from the JSON values of `write_network`.

    Raises:
        KeyError, TypeError, ValueError: the values are no settings of a network.
    """
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    network = settings.pop("network", None)
    if network is None:
        return VAEConfig(**settings)
    if network not in _NETWORKS:
        raise ValueError(f"no network {network}")
    return _NETWORKS[network](**settings)
