"""Anomaly maps of a trained model, computed for a batch of images: what all methods share."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.detector.fusion import MapSettings, add_parts, by_image, finish_parts
from anomaly_cli.detector.maps import MapSpec, parts_of
from anomaly_cli.detector.normal.memory import PatchMemory
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.detector.together import in_shares
from anomaly_cli.files.images import AnomalyMap
from models.statistics import LatentStatistics
from models.vae import Posterior

Maps = NDArray[np.float32]  # (B, S, S)


class RawMaps(NamedTuple):
    """Maps of a batch before they are smoothed and scaled, and its patches."""

    maps: Mapping[MapSpec, Tensor]  # (B, S, S), by part
    patches: Tensor | None = None  # of a map with a memory: features of each place, (B, C, h, w)


class LatentMaps(NamedTuple):
    """Anomaly maps of a batch and what they are made of, on the CPU."""

    anomaly_maps: Maps  # (B, S, S)
    latent_maps: Tensor  # (B, D, h, w) float32; their mean is the attention, before it is smoothed
    posterior: Posterior
    normal: LatentStatistics  # of normal images, with which the posterior is compared
    parts: Mapping[str, Maps] = {}  # by name, of a fused map, which is their sum, (B, S, S) each
    # Of a fused map: appearance, (B, 6, g, g), one for each of `appearance.KINDS`.
    kind_maps: Tensor | None = None
    patches: Tensor | None = None  # of a map with a memory: features of each place, (B, C, h, w)


class MappedBatch(NamedTuple):
    """Anomaly maps of a batch and its patches, on the CPU."""

    anomaly_maps: Maps  # (B, S, S)
    patches: Tensor | None  # of a map with a memory: features of each place, (B, C, h, w)


class AnomalyMapper(ABC):
    """Mapper from images to anomaly maps, with one model on one device.

    Each method has a subclass, which computes the raw maps.

    Args:
        size: side of the network's input in pixels.
        device: where to compute.
        settings: smoothing, scales and weights of fused maps.
        scale: turns the values of every map into scores; None leaves them as they are.
    """

    memory: PatchMemory | None = None  # of normal patches, if the model has one

    def __init__(
        self,
        size: int,
        device: torch.device,
        *,
        settings: MapSettings | None = None,
        scale: ScoreScale | None = None,
    ) -> None:
        self.size = size
        self.device = device
        self.settings = settings or MapSettings()
        self.scale = scale

    @abstractmethod
    def compute(
        self, images: Tensor, parts: Sequence[MapSpec], own: Sequence[int] | None = None
    ) -> RawMaps:
        """Compute the raw maps of parts, for images (B, 3, S, S) in [0, 1] on the device."""

    def with_latents(self, images: Tensor, spec: MapSpec) -> LatentMaps:  # noqa: ARG002
        """Compute the maps of a spec and the map of each latent, for images (B, 3, S, S).

        For a fused map, the maps of latents are those of its attention part.

        Raises:
            ValueError: the spec has no map for each latent.
        """
        raise ValueError(f"{spec} has no map for each latent")

    def expected(self, images: Tensor) -> Tensor | None:  # noqa: ARG002
        """Rebuild images (B, 3, S, S) as the model takes them to be; None if it cannot."""
        return None

    def __call__(
        self, images: Tensor, specs: Sequence[MapSpec], own: Sequence[int] | None = None
    ) -> dict[MapSpec, Maps]:
        """Compute finished maps (B, S, S) for images (B, 3, S, S) in [0, 1].

        Args:
            images: the batch.
            specs: the maps.
            own: numbers of the images, if they are images of the memory: their own patches are
                left out.
        """
        computed = self.components(images, specs, own)
        return {spec: self._score(self._finish(computed, spec)) for spec in specs}

    def map_batch(self, images: Tensor, spec: MapSpec) -> MappedBatch:
        """Compute the finished maps of images (B, 3, S, S) in [0, 1], and their patches."""
        raw = self._compute(images, [spec])
        return MappedBatch(self._score(self._finish(raw.maps, spec)), raw.patches)

    def components(
        self, images: Tensor, specs: Sequence[MapSpec], own: Sequence[int] | None = None
    ) -> dict[MapSpec, Tensor]:
        """Compute the raw maps that `specs` are made of, neither smoothed nor scaled.

        The reconstruction is decoded from the latents that attention has encoded, if there is
        attention among the parts.

        Args:
            images: shape (B, 3, S, S) in [0, 1].
            specs: fused maps, or others.
            own: see `__call__`.

        Returns:
            Maps (B, S, S) float32 on the CPU, by part.
        """
        return dict(self._compute(images, specs, own).maps)

    def _compute(
        self, images: Tensor, specs: Sequence[MapSpec], own: Sequence[int] | None = None
    ) -> RawMaps:
        images = images.to(self.device, non_blocking=True)
        raw = self.compute(images, parts_of(specs), own)
        maps = {part: own_map.detach().float().cpu() for part, own_map in raw.maps.items()}
        return raw._replace(maps=maps)

    def _finish(
        self, computed: Mapping[MapSpec, Tensor], spec: MapSpec
    ) -> list[tuple[AnomalyMap, ...]]:
        """Finish the parts of the map of each image."""
        arrays = {part: computed[part].numpy() for part in spec.parts}
        return [finish_parts(parts, spec, self.settings) for parts in by_image(arrays, spec)]

    def _by_name(
        self, finished: Sequence[tuple[AnomalyMap, ...]], spec: MapSpec
    ) -> dict[str, Maps]:
        """Stack the parts of a fused map, by their names; empty for other maps."""
        if not spec.is_fused:
            return {}
        parts = zip(*finished, strict=True)
        return {name: np.stack(p) for name, p in zip(spec.part_names, parts, strict=True)}

    def _score(self, finished: Sequence[tuple[AnomalyMap, ...]]) -> Maps:
        maps = [add_parts(parts) for parts in finished]
        if self.scale is not None:
            maps = [self.scale(anomaly_map) for anomaly_map in maps]
        return np.stack(maps)


def map_images(
    compute: Callable[..., Mapping[MapSpec, Tensor | Maps]],
    batches: Iterable[Tensor],
    specs: Sequence[MapSpec],
    own: Iterable[int] | None = None,
) -> defaultdict[MapSpec, list[AnomalyMap]]:
    """Compute the maps (S, S) of all images.

    Args:
        compute: an `AnomalyMapper`, or its `components` for the parts that the specs are made of.
        batches: images (B, 3, S, S) in [0, 1].
        specs: the maps.
        own: number of each image in the memory, whose patches are left out; None: they are others.
    """
    numbers = None if own is None else iter(own)
    numbered = (
        (images, None if numbers is None else list(islice(numbers, len(images))))
        for images in batches
    )

    def of_batch(batch: tuple[Tensor, list[int] | None]) -> dict[MapSpec, Maps]:
        found = compute(batch[0], specs, batch[1])
        return {spec: np.asarray(maps) for spec, maps in found.items()}

    computed: defaultdict[MapSpec, list[AnomalyMap]] = defaultdict(list)
    for maps in in_shares(of_batch, numbered):
        for spec, values in maps.items():
            computed[spec].extend(values)
    return computed
