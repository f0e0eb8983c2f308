"""Anomaly maps of the networks that the paper compares itself with: each has one map of its own."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from anomaly_cli.config.names import CENTRE_PRIOR
from anomaly_cli.detector.fusion import MapSettings
from anomaly_cli.detector.mapper import AnomalyMapper, RawMaps
from anomaly_cli.detector.maps import MapSpec
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.detector.vae_mapper import centre_prior


class MappingNetwork(Protocol):
    """Network, in eval mode, that computes the anomaly map of its method."""

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Compute maps (B, S, S) of images (B, 3, S, S) in [0, 1]."""

    def expected(self, images: Tensor) -> Tensor | None:
        """Rebuild images (B, 3, S, S) as the network takes them to be; None if it cannot."""


class NetworkMapper(AnomalyMapper):
    """Mapper of a network with one anomaly map.

    Args:
        network: trained on normal images, in eval mode, on the device.
        size: side of the network's input in pixels.
        device: where to compute.
        settings: smoothing of the maps.
        scale: turns the values of every map into scores; None leaves them as they are.
    """

    def __init__(
        self,
        network: MappingNetwork,
        size: int,
        device: torch.device,
        *,
        settings: MapSettings | None = None,
        scale: ScoreScale | None = None,
    ) -> None:
        super().__init__(size, device, settings=settings, scale=scale)
        self.network = network

    def compute(
        self,
        images: Tensor,
        parts: Sequence[MapSpec],
        own: Sequence[int] | None = None,  # noqa: ARG002 - these networks have no memory
    ) -> RawMaps:
        """Compute the raw maps of parts, for images (B, 3, S, S) in [0, 1] on the device."""
        return RawMaps(
            {
                part: centre_prior(images)
                if part.source == CENTRE_PRIOR
                else self.network.anomaly_maps(images)
                for part in parts
            }
        )

    def expected(self, images: Tensor) -> Tensor | None:
        """Rebuild images (B, 3, S, S) as the network takes them to be; None if it cannot."""
        rebuilt = self.network.expected(images.to(self.device))
        return None if rebuilt is None else rebuilt.detach().cpu()
