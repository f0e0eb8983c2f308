"""Anomaly maps by name: every definition that a trained model can draw, and their calibration."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.calibration import MapCalibration, ScoreScale, calibrate_map
from anomaly_cli.config import RECONSTRUCTION
from anomaly_cli.data.normal import NormalImages
from anomaly_cli.errors import ConfigError
from anomaly_cli.images import AnomalyMap
from models.attention import (
    EXACT,
    LatentStatistics,
    LocalStatistics,
    NormalStatistics,
    anomaly_attention_maps,
    latent_attention_maps,
)
from models.config import Attention, Layer, VAEConfig
from models.gradients import activate, local_latents
from models.heads import PooledHead
from models.resnet import ResNet18Encoder
from models.vae import VAE, Posterior


class MapSpec(NamedTuple):
    """One way to draw an anomaly map: a definition of attention at a layer, or the residual."""

    source: str  # a value of `Attention`, or "reconstruction"
    layer: Layer | None = None  # target layer of attention

    def __str__(self) -> str:
        """The name in checkpoints and reports, such as `diff_mahal@layer4`."""
        return f"{self.source}@{self.layer}" if self.layer else self.source


def map_specs(config: VAEConfig) -> list[MapSpec]:
    """Every map that a model of this shape can draw; `exact` needs a pooled last activation."""
    specs = [
        MapSpec(attention.value, layer)
        for layer in config.layers
        for attention in Attention
        if attention not in EXACT or (config.head == "gap" and layer == config.layers[-1])
    ]
    return [*specs, MapSpec(RECONSTRUCTION)]


def parse_map_spec(text: str, config: VAEConfig) -> MapSpec:
    """The inverse of `str(spec)`.

    Raises:
        ConfigError: a model of this shape has no such map.
    """
    specs = map_specs(config)
    for spec in specs:
        if str(spec) == text:
            return spec
    raise ConfigError(f"no anomaly map {text}; this model has {', '.join(map(str, specs))}")


class LatentMaps(NamedTuple):
    """Anomaly maps of a batch and the latents they are made of, on the CPU."""

    anomaly_maps: Tensor  # (B, S, S) float32
    latent_maps: Tensor  # (B, D, h, w) float32; their mean, enlarged, is the raw anomaly map
    posterior: Posterior


def candidate_maps(
    config: VAEConfig, attention: Attention | None = None, layer: Layer | None = None
) -> list[MapSpec]:
    """The maps of attention that agree with what the user named; the layer is the last by default.

    Raises:
        ConfigError: a model of this shape has no such map.
    """
    chosen = layer or config.layers[-1]
    if attention is not None:
        return [parse_map_spec(str(MapSpec(attention.value, chosen)), config)]
    specs = [spec for spec in map_specs(config) if spec.layer == chosen]
    if not specs:
        raise ConfigError(f"no layer {chosen}; this model has {', '.join(config.layers)}")
    return specs


class MapMaker:
    """Draws anomaly maps with one model on one device.

    Args:
        vae: a ResNet18 VAE; put into eval mode here.
        statistics: of the normal images.
        size: side of the network's input in pixels.
        device: where to compute.
        scale: turns the values of every map into scores; None leaves them as they are.
    """

    def __init__(
        self,
        vae: VAE,
        statistics: NormalStatistics,
        size: int,
        device: torch.device,
        scale: ScoreScale | None = None,
    ) -> None:
        self.vae = vae.to(device).eval()
        self.encoder: ResNet18Encoder = vae.encoder  # type: ignore[assignment]
        self.statistics = _to(statistics, device)
        self.size = size
        self.device = device
        self.scale = scale

    def __call__(self, images: Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, Tensor]:
        """Maps (B, S, S) float32 on the CPU for images (B, 3, S, S) in [0, 1].

        Definitions at one layer share the pass through the encoder and their gradients.
        """
        images = images.to(self.device, non_blocking=True)
        maps: dict[MapSpec, Tensor] = {}
        for layer in dict.fromkeys(spec.layer for spec in specs if spec.layer):
            chosen = {Attention(spec.source): spec for spec in specs if spec.layer == layer}
            activation = activate(self.encoder, images, layer)
            drawn = anomaly_attention_maps(
                activation, chosen, self.statistics, (self.size, self.size)
            )
            maps |= {chosen[attention]: drawn[attention] for attention in chosen}
        residual = MapSpec(RECONSTRUCTION)
        if residual in specs:
            maps[residual] = reconstruction_error(self.vae, images)
        return {spec: self._score(maps[spec].detach().float().cpu()) for spec in specs}

    def _score(self, maps: Tensor) -> Tensor:
        if self.scale is None:
            return maps
        return torch.from_numpy(np.stack([self.scale(anomaly_map) for anomaly_map in maps.numpy()]))

    def with_latents(self, images: Tensor, spec: MapSpec) -> LatentMaps:
        """The same anomaly maps, with the map of each latent, from one pass through the encoder.

        Raises:
            ValueError: the definition has no map for each latent.
        """
        if spec.layer is None:
            raise ValueError(f"{spec} has no map for each latent")
        activation = activate(self.encoder, images.to(self.device, non_blocking=True), spec.layer)
        attention = Attention(spec.source)
        maps = latent_attention_maps(activation, attention, self.statistics).detach().float()
        size = (self.size, self.size)
        mean = maps.mean(dim=1, keepdim=True)
        anomaly_maps = F.interpolate(mean, size, mode="bilinear", align_corners=False)[:, 0]
        posterior = Posterior(*(part.detach().float().cpu() for part in activation.posterior))
        return LatentMaps(self._score(anomaly_maps.cpu()), maps.cpu(), posterior)


def _to(statistics: NormalStatistics, device: torch.device) -> NormalStatistics:
    latent = LatentStatistics(*(part.float().to(device) for part in statistics.latent))
    if statistics.local is None:
        return NormalStatistics(latent)
    local = LocalStatistics(*(part.float().to(device) for part in statistics.local))
    return NormalStatistics(latent, local)


@torch.no_grad()
def reconstruction_error(vae: VAE, images: Tensor) -> Tensor:
    """|x - x^|, mean over channels: (B, 3, H, W) in [0, 1] -> (B, H, W). The paper's baseline."""
    return (images - vae.reconstruct(images)).abs().mean(dim=1)


@torch.no_grad()
def normal_statistics(encoder: ResNet18Encoder, batches: Iterable[Tensor]) -> NormalStatistics:
    """Statistics of normal images (B, 3, S, S), streamed in float64, on the CPU.

    The aggregate posterior follows the law of total variance: its variance is
    E[sigma^2] + Var[mu], not the mean of the variances.
    """
    layer = encoder.layers[-1]
    is_pooled = isinstance(encoder.closed_head(layer), PooledHead)
    device = encoder.mu.weight.device
    mu, spread, local = _Moments(), _Moments(), _Moments()
    for batch in batches:
        activation = activate(encoder, batch.to(device), layer)
        mu.add(activation.posterior.mu)
        spread.add(activation.posterior.logvar.exp())
        if is_pooled:
            local.add(local_latents(activation))
    latent = LatentStatistics(mu.mean, spread.mean + mu.variance)
    if not is_pooled:
        return NormalStatistics(latent)
    pooled_mean = local.mean.mean(dim=(1, 2))
    pooled_variance = local.mean_square.mean(dim=(1, 2)) - pooled_mean.square()
    return NormalStatistics(
        latent,
        LocalStatistics(
            local.mean.float(), local.variance.float(), pooled_mean.float(), pooled_variance.float()
        ),
    )


class _Moments:
    """Mean and variance over images, in float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.sum_of_squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Values of a batch, (B, ...)."""
        values = values.detach().double().cpu()
        self.count += len(values)
        self.sum = self.sum + values.sum(dim=0)
        self.sum_of_squares = self.sum_of_squares + values.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum) / self.count

    @property
    def mean_square(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum_of_squares) / self.count

    @property
    def variance(self) -> Tensor:
        """Over images, (...); not negative."""
        return (self.mean_square - self.mean.square()).clamp_min(0.0)


def calibrate_maps(
    maker: MapMaker, held_out: NormalImages, config: VAEConfig, *, batch_size: int
) -> dict[str, MapCalibration]:
    """The calibration of every map that the model can draw, from held-out normal images."""
    calibrations: dict[str, MapCalibration] = {}
    for layer in (*config.layers, None):  # few maps of all images are alive at once
        specs = [spec for spec in map_specs(config) if spec.layer == layer]
        drawn: dict[MapSpec, list[AnomalyMap]] = {spec: [] for spec in specs}
        for images in held_out.batches(batch_size):
            for spec, maps in maker(images, specs).items():
                drawn[spec].extend(np.asarray(maps))
        grid = config.image_size // (1 if layer is None else config.stride(layer))
        calibrations |= {str(spec): calibrate_map(maps, grid) for spec, maps in drawn.items()}
    return calibrations
