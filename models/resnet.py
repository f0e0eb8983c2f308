"""The VAE of the MVTec experiments: ResNet18 encoder that gives its stages by name, ConvT decoder.

Bhattad, Liu et al. (CVPR 2020) leave stem, pooling and decoder open; `docs/method.md` says what
was chosen and why.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from models.config import STAGES, Freeze, VAEConfig
from models.heads import FlatHead, PooledHead
from models.vae import VAE, Posterior

FEATURES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}  # channels of each stage
STRIDE = 32  # of layer4

Features = list[Tensor]  # stages from fine to coarse, the target layer last

# Statistics of ImageNet, so that pretrained and fresh encoders see the same input.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class ResNet18Encoder(nn.Module):
    """torchvision's ResNet18, an optional neck, then one affine head per posterior parameter.

    Parameter names are torchvision's, so its state dictionaries load as they are. Every stage ends
    in a ReLU whose output no later operation overwrites, so attention may read it.
    """

    image_channels = 3
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        backbone = resnet18(weights=None)
        self.conv1, self.bn1 = backbone.conv1, backbone.bn1
        self.relu, self.maxpool = backbone.relu, backbone.maxpool
        self.layer1, self.layer2 = backbone.layer1, backbone.layer2
        self.layer3, self.layer4 = backbone.layer3, backbone.layer4
        self.layers: tuple[str, ...] = config.layers
        self.head = config.head
        self.frozen: tuple[nn.Module, ...] = ()
        self.grid = config.image_size // STRIDE
        self.neck = TopDownNeck(config) if config.neck == "fpn" else None
        width = FEATURES["layer4"] * (self.grid**2 if self.head == "flatten" else 1)
        width = width if self.neck is None else config.neck_channels
        self.mu = nn.Linear(width, config.latent_dim)
        self.logvar = nn.Linear(width, config.latent_dim)
        # A posterior of unit variance is a calm start: exp(logvar) cannot overflow at step one.
        nn.init.zeros_(self.logvar.weight)
        nn.init.zeros_(self.logvar.bias)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), False)

    def features(self, images: Tensor, layer: str) -> Features:
        """Activations of the stages up to `layer` for images (B, 3, H, W) in [0, 1].

        The last one is the target A (B, K, h, w); a neck needs the others as well.
        """
        hidden: Tensor = (images - self.pixel_mean) / self.pixel_std
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(hidden))))
        first, *rest = self.layers[: self.layers.index(layer) + 1]
        stages = [getattr(self, first)(hidden)]
        for name in rest:
            stages = self.ascend(stages, name)
        return stages

    def ascend(self, features: Features, layer: str) -> Features:
        """What `features` gives of `layer`, from what it gave of the layer below."""
        if layer == "neck":
            assert self.neck is not None  # noqa: S101 - `layers` holds "neck" only then
            return [self.neck(features)]
        return [*features, getattr(self, layer)(features[-1])]

    def posterior(self, features: Features, layer: str) -> Posterior:
        """Posterior of what `features` gave: the part of the encoder above `layer`."""
        for name in self.layers[self.layers.index(layer) + 1 :]:
            features = self.ascend(features, name)
        hidden = features[-1]
        pooled = hidden.mean(dim=(2, 3)) if self.head == "gap" else hidden.flatten(1)
        return Posterior(self.mu(pooled), self.logvar(pooled))

    def closed_head(self, layer: str) -> PooledHead | FlatHead | None:
        """The head, where nothing else lies above `layer`; else gradients need autograd."""
        if layer != self.layers[-1]:
            return None
        if self.head == "gap":
            return PooledHead(self.mu.weight, self.mu.bias)
        return FlatHead(self.mu.weight.view(-1, FEATURES[layer], self.grid, self.grid))

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Take convolutions and norms from a torchvision ResNet18; its classifier is left out.

        Raises:
            RuntimeError: a tensor is missing, is of another shape, or belongs to another network.
        """
        own = {
            name for name in self.state_dict() if name.split(".")[0] not in {"mu", "logvar", "neck"}
        }
        given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        # Weights of before PyTorch 0.4.1, torchvision's among them, have no counters of batches.
        counters = {name for name in own if name.endswith(".num_batches_tracked")}
        if missing := sorted(own - counters - given.keys()):
            raise RuntimeError(f"{len(missing)} tensors are missing, such as {missing[0]}")
        if unknown := sorted(given.keys() - own):
            raise RuntimeError(f"{len(unknown)} tensors are not ResNet18's, such as {unknown[0]}")
        self.load_state_dict(given, strict=False)

    def freeze(self, stage: Freeze) -> None:
        """Keep weights and batch statistics up to and with a stage as they are, for good."""
        if stage == "none":
            return
        names = ["stem", *STAGES][: 1 + ["stem", *STAGES].index(stage)]
        stages = [getattr(self, name) for name in names[1:]]
        self.frozen = (self.conv1, self.bn1, *stages)
        for module in self.frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ResNet18Encoder":
        """Train mode, but for what is frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Posterior:
        """Posterior of images (B, 3, H, W) in [0, 1]."""
        layer = self.layers[-1]
        return self.posterior(self.features(images, layer), layer)


class TopDownNeck(nn.Module):
    """Fuses the stages into one activation at a fine stride, coarse to fine.

    The idea of feature pyramid networks (Lin et al. 2017), with one output level: each stage is
    brought to the same width, and what is coarse is enlarged and added to what is finer.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.neck_channels
        self.first = {4: 0, 8: 1}[config.neck_stride]  # finest stage that is used
        self.lateral = nn.ModuleList(
            nn.Conv2d(FEATURES[name], width, 1) for name in STAGES[self.first :]
        )
        self.output = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, stages: Features) -> Tensor:
        """All four stages, finest first -> (B, neck_channels, h, w)."""
        used = stages[self.first :]
        fused: Tensor = self.lateral[-1](used[-1])
        for lateral, stage in zip(self.lateral[-2::-1], used[-2::-1], strict=True):
            fused = F.interpolate(fused, scale_factor=2.0, mode="nearest") + lateral(stage)
        return cast("Tensor", self.output(fused))


class ConvDecoder(nn.Sequential):
    """Latents (B, D) -> logits (B, 3, S, S): one affine layer to 8 x 8 (at 256 px), five ConvT."""

    def __init__(self, config: VAEConfig) -> None:
        grid = config.rebuilt_size // STRIDE
        widths = [512, 256, 128, 64, 32]
        layers: list[nn.Module] = [
            nn.Linear(config.latent_dim, widths[0] * grid**2),
            nn.Unflatten(1, (widths[0], grid, grid)),
            nn.ReLU(),
        ]
        for inner, outer in pairwise(widths):
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outer), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1))
        super().__init__(*layers)


def resnet18_vae(config: VAEConfig) -> VAE:
    """The VAE of `config`, freshly initialised, in channels_last (2.3 times faster on CPU)."""
    vae = VAE(ResNet18Encoder(config), ConvDecoder(config), rebuilt_size=config.rebuilt_size)
    return vae.to(memory_format=torch.channels_last)
