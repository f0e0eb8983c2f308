"""The anomaly maps of a trained model, drawn for a batch of images, and their calibration."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anomaly_cli.baselines import baseline_map
from anomaly_cli.calibration import MapCalibration, calibrate_map
from anomaly_cli.config.names import APPEARANCE, CONTEXT
from anomaly_cli.data.normal import NormalImages
from anomaly_cli.data.painted import PaintedImage, painted_batches
from anomaly_cli.files.images import AnomalyMap
from anomaly_cli.fusion import MapSettings, add_parts, by_image, finish_parts
from anomaly_cli.maps import MapSpec, map_specs, parts_of
from anomaly_cli.masks import MarkedMap
from anomaly_cli.score_scales import ScoreScale
from models.activations import Encoder, activate, activate_layers
from models.appearance import appearance_maps, mean_map
from models.attention import anomaly_maps_of_layers, latent_attention_maps
from models.config import Attention, OneClassConfig
from models.context import NormalContext, context_maps
from models.statistics import LatentStatistics, LocalStatistics, NormalStatistics
from models.vae import VAE, Posterior

OF_KINDS = (APPEARANCE, CONTEXT)  # sources whose maps are made of one for each kind of statistic


class LatentMaps(NamedTuple):
    """Anomaly maps of a batch and what they are made of, on the CPU."""

    anomaly_maps: Tensor  # (B, S, S) float32
    latent_maps: Tensor  # (B, D, h, w) float32; their mean is the attention, before it is smoothed
    posterior: Posterior
    parts: tuple[Tensor, ...] = ()  # of a fused map, which is their sum, (B, S, S) each
    # Of a fused map, by source of the part: (B, 6, g, g), one for each of `appearance.KINDS`.
    kind_maps: Mapping[str, Tensor] = {}


class MapMaker:
    """Draws anomaly maps with one model on one device.

    Args:
        vae: of one class; put into eval mode here.
        statistics: of the normal images.
        size: side of the network's input in pixels.
        device: where to compute.
        settings: smoothing, and the scales of fused maps.
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
        self.vae = vae.to(device).eval()
        self.encoder: Encoder = vae.encoder  # type: ignore[assignment]
        self.statistics = _to(statistics, device)
        self.size = size
        self.device = device
        self.settings = settings or MapSettings()
        self.scale = scale

    def __call__(self, images: Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, Tensor]:
        """Maps (B, S, S) float32 on the CPU for images (B, 3, S, S) in [0, 1].

        All definitions share the pass through the encoder, and their gradients.
        """
        drawn = self.draw(images, specs)
        return {spec: self._score(self._finish(drawn, spec)) for spec in specs}

    def draw(self, images: Tensor, specs: Sequence[MapSpec]) -> dict[MapSpec, Tensor]:
        """The same of what the specs are made of, neither smoothed nor scaled.

        The error is that of the latents which attention has encoded, if there is attention.
        """
        images = images.to(self.device, non_blocking=True)
        parts = parts_of(specs)
        maps: dict[MapSpec, Tensor] = {}
        latents: Tensor | None = None
        if layers := {part.layer for part in parts if part.layer}:
            with_half = any(part.source == Attention.EXACT_SCALES for part in parts)
            activations = activate_layers(self.encoder, images, layers, with_half=with_half)
            latents = next(iter(activations.values())).posterior.mu.detach()
            chosen = [
                {Attention(part.source): part for part in parts if part.layer == layer}
                for layer in activations
            ]
            drawn = anomaly_maps_of_layers(
                list(zip(activations.values(), chosen, strict=True)),
                self.statistics,
                (self.size, self.size),
            )
            for specs_of, maps_of in zip(chosen, drawn, strict=True):
                maps |= {specs_of[attention]: maps_of[attention] for attention in specs_of}
        for part in parts:
            if part.layer is None:
                maps[part] = self._baseline(part, images, latents)
        return {part: maps[part].detach().float().cpu() for part in parts}

    def _baseline(self, spec: MapSpec, images: Tensor, latents: Tensor | None) -> Tensor:
        if spec.source in OF_KINDS:
            return mean_map(self._kind_maps(spec.source, images), (self.size, self.size))
        return baseline_map(spec.source, self.vae, images, latents)

    def _kind_maps(self, source: str, images: Tensor) -> Tensor:
        """What the map of a source of `OF_KINDS` is the mean of, (B, 6, g, g)."""
        appearance, context = self.statistics.appearance, self.statistics.context
        if source == APPEARANCE and appearance is not None:
            return appearance_maps(images, appearance)
        if source == CONTEXT and context:
            return context_maps(images, context)
        raise ValueError(f"maps of {source} need that of normal images")

    def _finish(self, drawn: dict[MapSpec, Tensor], spec: MapSpec) -> list[tuple[AnomalyMap, ...]]:
        """The parts of the map of each image."""
        arrays = {part: drawn[part].numpy() for part in spec.parts}
        return [finish_parts(parts, spec, self.settings) for parts in by_image(arrays, spec)]

    def _score(self, finished: Sequence[tuple[AnomalyMap, ...]]) -> Tensor:
        maps = [add_parts(parts) for parts in finished]
        if self.scale is not None:
            maps = [self.scale(anomaly_map) for anomaly_map in maps]
        return torch.from_numpy(np.stack(maps))

    def with_latents(self, images: Tensor, spec: MapSpec) -> LatentMaps:
        """The same anomaly maps, with the map of each latent, from one pass through the encoder.

        The maps of the latents are those of a fused map's attention.

        Raises:
            ValueError: the definition has no map for each latent.
        """
        if spec.layer is None:
            raise ValueError(f"{spec} has no map for each latent")
        images = images.to(self.device, non_blocking=True)
        attention = Attention(spec.parts[0].source)
        with_half = attention is Attention.EXACT_SCALES
        activation = activate(self.encoder, images, spec.layer, with_half=with_half)
        maps = latent_attention_maps(activation, attention, self.statistics).detach().float()
        size = (self.size, self.size)
        posterior = Posterior(*(part.detach().float() for part in activation.posterior))
        drawn = {spec.parts[0]: mean_map(maps, size).cpu()}
        kinds: dict[str, Tensor] = {}
        for part in spec.parts[1:]:
            if part.source in OF_KINDS:
                kinds[part.source] = self._kind_maps(part.source, images).cpu()
                drawn[part] = mean_map(kinds[part.source], size)
            else:
                drawn[part] = self._baseline(part, images, posterior.mu).cpu()
        finished = self._finish(drawn, spec)
        parts = zip(*finished, strict=True) if spec.is_fused else ()
        return LatentMaps(
            self._score(finished),
            maps.cpu(),
            Posterior(*(part.cpu() for part in posterior)),
            tuple(torch.from_numpy(np.stack(part)) for part in parts),
            kinds,
        )


def _to(statistics: NormalStatistics, device: torch.device) -> NormalStatistics:
    latent = LatentStatistics(*(part.float().to(device) for part in statistics.latent))
    looks = statistics.appearance
    return NormalStatistics(
        latent,
        _local_to(statistics.local, device),
        _local_to(statistics.half, device),
        None if looks is None else type(looks)(*(part.to(device) for part in looks)),
        [NormalContext(*(part.to(device) for part in own)) for own in statistics.context],
    )


def _local_to(statistics: LocalStatistics | None, device: torch.device) -> LocalStatistics | None:
    if statistics is None:
        return None
    parts = (None if part is None else part.float().to(device) for part in statistics)
    return LocalStatistics(*parts)  # type: ignore[arg-type] # only the last may be None


def calibrate_maps(
    maker: MapMaker,
    held_out: NormalImages,
    config: OneClassConfig,
    *,
    batch_size: int,
    painted: Sequence[PaintedImage] = (),
) -> dict[str, MapCalibration]:
    """The calibration of every map that the model can draw, from held-out normal images.

    Args:
        maker: draws the maps.
        held_out: the images.
        config: of the model.
        batch_size: images at once.
        painted: the same images with a defect drawn in, for the outlines; those without one are
            left out. Maps at earlier stages cost up to 50 times those at the last one and have no
            outline.
    """
    calibrations: dict[str, MapCalibration] = {}
    *earlier, last = config.layers
    for layers in (earlier, [last], [None]):  # few maps of all images are alive at once
        specs = [spec for spec in map_specs(config) if spec.layer in layers]
        marked = [] if layers is earlier else [image for image in painted if image.mask.any()]
        normal = draw_all(maker, held_out.batches(batch_size), specs)
        defects = draw_all(maker, painted_batches(marked, batch_size), specs)
        masks = [image.mask for image in marked]
        for spec in specs:
            grid = config.image_size // (1 if spec.layer is None else config.stride(spec.layer))
            pairs = [MarkedMap(*pair) for pair in zip(defects[spec], masks, strict=True)]
            calibrations[str(spec)] = calibrate_map(
                normal[spec], grid, pairs, is_halved=spec.is_halved
            )
    return calibrations


def draw_all(
    draw: Callable[[Tensor, Sequence[MapSpec]], Mapping[MapSpec, Tensor]],
    batches: Iterable[Tensor],
    specs: Sequence[MapSpec],
) -> defaultdict[MapSpec, list[AnomalyMap]]:
    """The maps (S, S) of all images.

    Args:
        draw: a `MapMaker`, or its `draw` for the parts that the specs are made of.
        batches: images (B, 3, S, S).
        specs: the maps.
    """
    drawn: defaultdict[MapSpec, list[AnomalyMap]] = defaultdict(list)
    for images in batches:
        for spec, maps in draw(images, specs).items():
            drawn[spec].extend(np.asarray(maps))
    return drawn
