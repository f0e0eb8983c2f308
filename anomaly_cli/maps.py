"""Anomaly maps by name: every definition that a trained model can draw, and their calibration."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.calibration import Calibration, calibrate
from anomaly_cli.config import RECONSTRUCTION
from anomaly_cli.data.normal import NormalImages
from anomaly_cli.errors import ConfigError
from anomaly_cli.images import AnomalyMap
from models.attention import LatentStatistics, anomaly_attention_map, latent_maps
from models.config import STAGES, Attention, Layer
from models.resnet import ResNet18Encoder
from models.vae import VAE, Posterior


class MapSpec(NamedTuple):
    """One way to draw an anomaly map: a definition of attention at a layer, or the residual."""

    source: str  # a value of `Attention`, or "reconstruction"
    layer: Layer | None = None  # target layer of attention

    def __str__(self) -> str:
        """The name in checkpoints and reports, such as `diff_mahal@layer4`."""
        return f"{self.source}@{self.layer}" if self.layer else self.source


def parse_map_spec(text: str) -> MapSpec:
    """The inverse of `str(spec)`.

    Raises:
        ConfigError: no such map.
    """
    for spec in ALL_MAPS:
        if str(spec) == text:
            return spec
    raise ConfigError(f"no anomaly map {text}; use one of {', '.join(map(str, ALL_MAPS))}")


ALL_MAPS = [MapSpec(a.value, layer) for layer in STAGES for a in Attention]
ALL_MAPS.append(MapSpec(RECONSTRUCTION))


class MapMaker:
    """Draws anomaly maps with one model on one device.

    Args:
        vae: a ResNet18 VAE; put into eval mode here.
        statistics: aggregate posterior of the normal images.
        size: side of the network's input in pixels.
        device: where to compute.
    """

    def __init__(
        self, vae: VAE, statistics: LatentStatistics, size: int, device: torch.device
    ) -> None:
        self.vae = vae.to(device).eval()
        self.encoder: ResNet18Encoder = vae.encoder  # type: ignore[assignment]
        self.statistics = LatentStatistics(*(part.float().to(device) for part in statistics))
        self.size = size
        self.device = device

    def __call__(self, images: Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, Tensor]:
        """Maps (B, S, S) float32 on the CPU for images (B, 3, S, S) in [0, 1]."""
        images = images.to(self.device, non_blocking=True)
        maps: dict[MapSpec, Tensor] = {}
        for layer in dict.fromkeys(spec.layer for spec in specs if spec.layer):
            latents = latent_maps(self.encoder, images, layer)
            for spec in specs:
                if spec.layer == layer:
                    chosen = Attention(spec.source)
                    maps[spec] = anomaly_attention_map(latents, chosen, self.statistics)
        residual = MapSpec(RECONSTRUCTION)
        if residual in specs:
            maps[residual] = reconstruction_error(self.vae, images)
        return {spec: self._to_size(maps[spec]) for spec in specs}

    def _to_size(self, maps: Tensor) -> Tensor:
        size = (self.size, self.size)
        scaled = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
        return scaled[:, 0].float().cpu()


@torch.no_grad()
def reconstruction_error(vae: VAE, images: Tensor) -> Tensor:
    """|x - x^|, mean over channels: (B, 3, H, W) in [0, 1] -> (B, H, W). The paper's baseline."""
    return (images - vae.reconstruct(images)).abs().mean(dim=1)


@torch.no_grad()
def posterior_statistics(encoder: ResNet18Encoder, batches: Iterable[Tensor]) -> LatentStatistics:
    """Mean and variance (D,) of the aggregate posterior of normal images, float64 on the CPU.

    Law of total variance: the variance is E[sigma^2] + Var[mu], not the mean of the variances.
    """
    parts = [encoder(batch.to(encoder.mu.weight.device)) for batch in batches]
    posterior = Posterior(*(torch.cat(part).double().cpu() for part in zip(*parts, strict=True)))
    spread = posterior.mu.var(dim=0, correction=0)
    return LatentStatistics(posterior.mu.mean(dim=0), posterior.logvar.exp().mean(dim=0) + spread)


def calibrate_maps(
    maker: MapMaker, held_out: NormalImages, *, batch_size: int
) -> dict[str, Calibration]:
    """The calibration of every map that the model can draw, from held-out normal images."""
    calibrations: dict[str, Calibration] = {}
    for layer in (
        *STAGES,
        None,
    ):  # layer by layer, so that few maps of all images are alive at once
        specs = [spec for spec in ALL_MAPS if spec.layer == layer]
        drawn: dict[MapSpec, list[AnomalyMap]] = {spec: [] for spec in specs}
        for images in held_out.batches(batch_size):
            for spec, maps in maker(images, specs).items():
                drawn[spec].extend(np.asarray(maps))
        calibrations |= {str(spec): calibrate(maps) for spec, maps in drawn.items()}
    return calibrations
