"""Anomaly maps of a VAE: attention, memory, appearance, and the error of the reconstruction."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.config.names import APPEARANCE, CENTRE_PRIOR, MEMORY, SSIM
from anomaly_cli.detector.fusion import MapSettings
from anomaly_cli.detector.mapper import AnomalyMapper, LatentMaps, RawMaps
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.normal.appearance import appearance_maps
from anomaly_cli.detector.normal.memory import patch_distances, patch_features
from anomaly_cli.detector.normal.statistics import NormalStatistics
from anomaly_cli.detector.scales import ScoreScale
from models.activations import Encoder, activate, activate_layers
from models.attention import anomaly_maps_of_layers, latent_attention_maps, mean_map
from models.config import LITE_STAGES, Attention
from models.frozen import FrozenEncoder
from models.vae import VAE, Posterior

PRIOR_WIDTH = 1 / 4  # of `centre_prior`: standard deviation in sides of the image


class VAEMapper(AnomalyMapper):
    """Mapper of a VAE and what is known of normal images. All maps share one encoder pass.

    Args:
        vae: trained on normal images; put into eval mode here.
        statistics: of the normal images.
        size: side of the network's input in pixels.
        device: where to compute.
        settings: smoothing, scales and weights of fused maps.
        scale: turns the values of every map into scores; None leaves them as they are.
    """

    def __init__(
        self,
        vae: VAE,
        statistics: NormalStatistics,
        size: int,
        device: torch.device,
        *,
        settings: MapSettings | None = None,
        scale: ScoreScale | None = None,
    ) -> None:
        super().__init__(size, device, settings=settings, scale=scale)
        self.vae = vae.to(device).eval()
        self.encoder: Encoder = vae.encoder  # type: ignore[assignment]
        self.statistics = statistics.to(device)
        self.memory = self.statistics.memory

    def compute(
        self, images: Tensor, parts: Sequence[MapSpec], own: Sequence[int] | None = None
    ) -> RawMaps:
        """Compute the raw maps of parts, for images (B, 3, S, S) in [0, 1] on the device.

        The reconstruction is decoded from the latents that attention has encoded, if there is
        attention among the parts.
        """
        stages = self._shared_stages(images, parts)
        maps, latents = self._attention(images, [part for part in parts if part.layer], stages)
        patches = None
        for part in parts:
            if part.source == MEMORY:
                patches, maps[part] = self._memory(images, stages, own)
            elif part.layer is None:
                maps[part] = self._baseline(part, images, latents)
        return RawMaps(maps, patches)

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tensor:
        """Rebuild images (B, 3, S, S) from their posterior means."""
        rebuilt = self.vae.reconstruct(images.to(self.device))
        size = (images.shape[2], images.shape[3])
        if rebuilt.shape[2:] == size:
            return rebuilt.expand(-1, 3, -1, -1).cpu()
        return F.interpolate(rebuilt, size, mode="bilinear").expand(-1, 3, -1, -1).cpu()

    @torch.no_grad()
    def _shared_stages(self, images: Tensor, parts: Sequence[MapSpec]) -> list[Tensor] | None:
        """Run the encoder once for memory and attention; None where they do not share it."""
        memory, encoder = self.statistics.memory, self.encoder
        has_memory = any(part.source == MEMORY for part in parts)
        if not (has_memory and memory and isinstance(encoder, FrozenEncoder)):
            return None
        return encoder.features(images, LITE_STAGES[-1])

    def _attention(
        self, images: Tensor, parts: Sequence[MapSpec], stages: list[Tensor] | None
    ) -> tuple[dict[MapSpec, Tensor], Tensor | None]:
        """Compute maps of attention and the posterior means (B, D); None without such parts."""
        if not parts:
            return {}, None
        layers = {part.layer for part in parts if part.layer}
        activations = activate_layers(
            self.encoder,
            images,
            layers,
            below=stages if layers == {"neck"} else None,
        )
        chosen = [
            {Attention(part.source): part for part in parts if part.layer == layer}
            for layer in activations
        ]
        computed = anomaly_maps_of_layers(
            list(zip(activations.values(), chosen, strict=True)),
            self.statistics.attention,
            (self.size, self.size),
        )
        maps = {
            spec: of_layer[attention]
            for specs, of_layer in zip(chosen, computed, strict=True)
            for attention, spec in specs.items()
        }
        return maps, next(iter(activations.values())).posterior.mu.detach()

    def _baseline(self, spec: MapSpec, images: Tensor, latents: Tensor | None) -> Tensor:
        if spec.source == APPEARANCE:
            return mean_map(self._appearance(images), (self.size, self.size))
        return baseline_map(spec.source, self.vae, images, latents)

    @torch.no_grad()
    def _memory(
        self, images: Tensor, stages: list[Tensor] | None, own: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the patches of images, on the CPU, and their distances as maps (B, S, S).

        Args:
            images: shape (B, 3, S, S) in [0, 1].
            stages: of the frozen encoder, if they are known.
            own: see `__call__`.
        """
        memory = self.statistics.memory
        if memory is None:
            raise ValueError(f"maps of {MEMORY} need the patches of normal images")
        known = (
            memory.encoder(images)
            if stages is None
            else dict(zip(LITE_STAGES, stages, strict=True))
        )
        features = patch_features(known)
        maps = _enlarge(patch_distances(features, memory, own=own), (self.size, self.size))
        return features.cpu(), maps

    def _appearance(self, images: Tensor) -> Tensor:
        """Compute the terms (B, 6, g, g) whose mean is the map of appearance."""
        if self.statistics.appearance is None:
            raise ValueError(f"maps of {APPEARANCE} need the appearance of normal images")
        return appearance_maps(images, self.statistics.appearance)

    def with_latents(self, images: Tensor, spec: MapSpec) -> LatentMaps:
        """Compute the maps of a spec and the map of each latent, in one pass through the encoder.

        See `AnomalyMapper.with_latents`.
        """
        attention = spec.definition.attention
        if attention is None or spec.layer is None:
            return super().with_latents(images, spec)
        images = images.to(self.device, non_blocking=True)
        stages = self._shared_stages(images, spec.parts)
        below = stages if spec.layer == "neck" else None
        activation = activate(self.encoder, images, spec.layer, below=below)
        statistics = self.statistics.attention
        maps = latent_attention_maps(activation, attention, statistics).detach().float()
        size = (self.size, self.size)
        posterior = Posterior(*(part.detach().float() for part in activation.posterior))
        own = MapSpec(attention.value, spec.layer)
        computed: dict[MapSpec, Tensor] = {}
        kinds: Tensor | None = None
        patches: Tensor | None = None
        for part in spec.parts:
            if part == own:
                computed[part] = mean_map(maps, size).cpu()
            elif part.source == MEMORY:
                patches, distances = self._memory(images, stages)
                computed[part] = distances.cpu()
            elif part.source == APPEARANCE:
                kinds = self._appearance(images).cpu()
                computed[part] = mean_map(kinds, size)
            else:
                computed[part] = self._baseline(part, images, posterior.mu).cpu()
        finished = self._finish(computed, spec)
        return LatentMaps(
            self._score(finished),
            maps.cpu(),
            Posterior(*(part.cpu() for part in posterior)),
            self.statistics.attention.latent,
            self._by_name(finished, spec),
            kinds,
            patches,
        )


@torch.no_grad()
def baseline_map(source: str, vae: VAE, images: Tensor, latents: Tensor | None = None) -> Tensor:
    """Compute the map of a baseline of the VAE.

    `reconstruction` is |x - x^|, mean over channels, the baseline of the paper. `ssim` is 1 - SSIM
    of x and x^ in Gaussian windows of 1.5 pixels (Wang et al. 2004; the residual of AE-SSIM,
    Bergmann et al. 2019), in [0, 2]. `centre_prior` is a Gaussian in the middle, the same for all
    images. It uses nothing but the place where defects often are.

    x is the input of the network: the grey of the images, if it has one channel. If the decoder
    makes smaller images than these, x is shrunk to their size and the map enlarged.

    Args:
        source: `reconstruction`, `ssim` or `centre_prior`.
        vae: in eval mode.
        images: shape (B, 3, H, W) in [0, 1], on the device of the VAE.
        latents: their posterior means (B, D), if they are known already.

    Returns:
        Shape (B, H, W).
    """
    if source == CENTRE_PRIOR:
        return centre_prior(images)
    rebuilt = vae.reconstruct(images) if latents is None else vae.decode(latents)
    seen = vae.targets(images)
    is_ssim = source == SSIM
    error = _dissimilarity(seen, rebuilt) if is_ssim else (seen - rebuilt).abs().mean(dim=1)
    if error.shape[1:] == images.shape[2:]:
        return error
    return _enlarge(error, (images.shape[2], images.shape[3]))


def centre_prior(images: Tensor) -> Tensor:
    """Draw a Gaussian in the middle (B, H, W), the same for all images (B, C, H, W)."""
    height, width = images.shape[2:]
    y, x = (torch.linspace(-0.5, 0.5, side, device=images.device) for side in (height, width))
    squares = y.square()[:, None] + x.square()
    return torch.exp(-squares / (2 * PRIOR_WIDTH**2)).expand(images.shape[0], -1, -1)


def _enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps (B, h, w) bilinearly."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _dissimilarity(seen: Tensor, rebuilt: Tensor) -> Tensor:
    """Compute 1 - SSIM of two batches (B, C, H, W), mean over channels: (B, H, W)."""
    # Slow to import, and only this map needs it.
    from skimage.metrics import structural_similarity  # noqa: PLC0415

    maps = []
    for x, y in zip(seen.float().cpu().numpy(), rebuilt.float().cpu().numpy(), strict=True):
        _mean, similarity = structural_similarity(  # type: ignore[no-untyped-call]
            x, y, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        maps.append(1 - similarity.mean(axis=0))
    return torch.from_numpy(np.stack(maps)).float().to(seen.device)
