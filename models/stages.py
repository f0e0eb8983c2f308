"""Encoders of named stages: a neck that fuses them, and an affine head of the posterior."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from models.config import VAEConfig
from models.vae import FlatHead, PooledHead, Posterior

Features = list[Tensor]  # stages from fine to coarse, the target layer last


class StagedEncoder(nn.Module):
    """A network of named stages, an optional neck, and a head for each posterior parameter.

    A subclass makes its stages, and then calls `add_head`.

    Args:
        config: shape of the VAE.
    """

    image_channels = 3

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.layers: tuple[str, ...] = config.layers
        self.head = config.head

    def add_head(self, config: VAEConfig, channels: Mapping[str, int]) -> None:
        """Add the neck and the layers that compute the posterior.

        Args:
            config: shape of the VAE.
            channels: of each stage, from fine to coarse.
        """
        self.channels = dict(channels)
        *_, last = channels
        self.grid = config.image_size // config.stride(last)
        width = channels[last] * (self.grid**2 if self.head == "flatten" else 1)
        self.neck: TopDownNeck | None = None
        if config.neck == "fpn":
            used = [channels[s] for s in channels if config.stride(s) >= config.neck_stride]
            width = config.neck_channels
            self.neck = TopDownNeck(used, width)
        self.mu = nn.Linear(width, config.latent_dim)
        self.logvar = nn.Linear(width, config.latent_dim)
        # The posterior starts with unit variance, so exp(logvar) cannot overflow in the first step.
        nn.init.zeros_(self.logvar.weight)
        nn.init.zeros_(self.logvar.bias)

    @abstractmethod
    def stem(self, images: Tensor) -> Tensor:
        """Compute the input of the first stage from images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def run_stage(self, stage: str, below: Tensor) -> Tensor:
        """Compute a stage from the one below."""

    def features(self, images: Tensor, layer: str) -> Features:
        """Compute the activations of the stages up to `layer` for images (B, 3, H, W) in [0, 1].

        The last one is the target A (B, K, h, w). A neck needs the others as well.
        """
        first, *rest = self.layers[: self.layers.index(layer) + 1]
        stages = [self.run_stage(first, self.stem(images))]
        for name in rest:
            stages = self.ascend(stages, name)
        return stages

    def ascend(self, features: Features, layer: str) -> Features:
        """Compute the `features` of `layer` from those of the layer below."""
        if layer == "neck":
            assert self.neck is not None  # noqa: S101 - `layers` holds "neck" only then
            return [self.neck(features)]
        return [*features, self.run_stage(layer, features[-1])]

    def posterior(self, features: Features, layer: str) -> Posterior:
        """Compute the posterior from the `features` of `layer`."""
        for name in self.layers[self.layers.index(layer) + 1 :]:
            features = self.ascend(features, name)
        hidden = features[-1]
        pooled = hidden.mean(dim=(2, 3)) if self.head == "gap" else hidden.flatten(1)
        return Posterior(self.mu(pooled), self.logvar(pooled))

    def closed_head(self, layer: str) -> PooledHead | FlatHead | None:
        """Return the head if nothing else lies above `layer`.

        Otherwise it is None, and gradients need autograd.
        """
        if layer != self.layers[-1]:
            return None
        if self.head == "gap":
            return PooledHead(self.mu.weight, self.mu.bias)
        return FlatHead(self.mu.weight.view(-1, self.channels[layer], self.grid, self.grid))

    def forward(self, images: Tensor) -> Posterior:
        """Compute the posterior of images (B, 3, H, W) in [0, 1]."""
        layer = self.layers[-1]
        return self.posterior(self.features(images, layer), layer)


class TopDownNeck(nn.Module):
    """Neck that fuses stages, from coarse to fine, into one activation with a small stride.

    This is a feature pyramid network (Lin et al. 2017) with one output level. Each stage is
    projected to the same width, and coarser stages are enlarged and added to finer ones.

    Args:
        channels: of the stages that are fused, finest first; each has twice the stride of the last.
        width: channels of the fused activation.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.output = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, stages: Features) -> Tensor:
        """Fuse the coarsest stages into one activation (B, width, h, w).

        Args:
            stages: all of the encoder, finest first.
        """
        used = stages[-len(self.lateral) :]
        fused: Tensor = self.lateral[-1](used[-1])
        for lateral, stage in zip(self.lateral[-2::-1], used[-2::-1], strict=True):
            fused = F.interpolate(fused, scale_factor=2.0, mode="nearest") + lateral(stage)
        return cast("Tensor", self.output(fused))
