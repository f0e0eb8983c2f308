"""VAE of the MVTec experiments: a ResNet18 encoder, and a decoder of transposed convolutions.

Bhattad, Liu et al. (CVPR 2020) do not specify stem, pooling and decoder; `docs/method.md` gives
the choices and their reasons.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from models.config import STAGES, Freeze, VAEConfig
from models.vae import VAE, FlatHead, PooledHead, Posterior

FEATURES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}  # channels of each stage
STRIDE = 32  # of layer4

Features = list[Tensor]  # stages from fine to coarse, the target layer last

# Statistics of ImageNet, so that pretrained and fresh encoders see the same input.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class ResNet18Encoder(nn.Module):
    """ResNet18 of torchvision, an optional neck, and an affine head for each posterior parameter.

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
        # The posterior starts with unit variance, so exp(logvar) cannot overflow in the first step.
        nn.init.zeros_(self.logvar.weight)
        nn.init.zeros_(self.logvar.bias)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), False)

    def features(self, images: Tensor, layer: str) -> Features:
        """Compute the activations of the stages up to `layer` for images (B, 3, H, W) in [0, 1].

        The last one is the target A (B, K, h, w). A neck needs the others as well.
        """
        hidden: Tensor = (images - self.pixel_mean) / self.pixel_std
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(hidden))))
        first, *rest = self.layers[: self.layers.index(layer) + 1]
        stages = [getattr(self, first)(hidden)]
        for name in rest:
            stages = self.ascend(stages, name)
        return stages

    def ascend(self, features: Features, layer: str) -> Features:
        """Compute the `features` of `layer` from those of the layer below."""
        if layer == "neck":
            assert self.neck is not None  # noqa: S101 - `layers` holds "neck" only then
            return [self.neck(features)]
        return [*features, getattr(self, layer)(features[-1])]

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
        return FlatHead(self.mu.weight.view(-1, FEATURES[layer], self.grid, self.grid))

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Load convolutions and norms of a torchvision ResNet18; its classifier is left out.

        Raises:
            RuntimeError: a tensor is missing, is of another shape, or belongs to another network.
        """
        own = {
            name for name in self.state_dict() if name.split(".")[0] not in {"mu", "logvar", "neck"}
        }
        given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        # Weights from before PyTorch 0.4.1, such as torchvision's, have no counters of batches.
        counters = {name for name in own if name.endswith(".num_batches_tracked")}
        if missing := sorted(own - counters - given.keys()):
            raise RuntimeError(f"{len(missing)} tensors are missing, such as {missing[0]}")
        if unknown := sorted(given.keys() - own):
            raise RuntimeError(f"{len(unknown)} tensors are not ResNet18's, such as {unknown[0]}")
        self.load_state_dict(given, strict=False)

    def freeze(self, stage: Freeze) -> None:
        """Freeze weights and batch statistics up to and including a stage, permanently."""
        if stage == "none":
            return
        names = ["stem", *STAGES][: 1 + ["stem", *STAGES].index(stage)]
        stages = [getattr(self, name) for name in names[1:]]
        self.frozen = (self.conv1, self.bn1, *stages)
        for module in self.frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ResNet18Encoder":
        """Set train mode, or eval mode; frozen modules stay in eval mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Posterior:
        """Compute the posterior of images (B, 3, H, W) in [0, 1]."""
        layer = self.layers[-1]
        return self.posterior(self.features(images, layer), layer)


class TopDownNeck(nn.Module):
    """Neck that fuses the stages, from coarse to fine, into one activation with a small stride.

    This is a feature pyramid network (Lin et al. 2017) with one output level. Each stage is
    projected to the same width, and coarser stages are enlarged and added to finer ones.
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
        """Fuse all four stages, finest first, into one activation (B, neck_channels, h, w)."""
        used = stages[self.first :]
        fused: Tensor = self.lateral[-1](used[-1])
        for lateral, stage in zip(self.lateral[-2::-1], used[-2::-1], strict=True):
            fused = F.interpolate(fused, scale_factor=2.0, mode="nearest") + lateral(stage)
        return cast("Tensor", self.output(fused))


class ConvDecoder(nn.Sequential):
    """Decoder of latents (B, D) to logits (B, 3, S, S).

    One affine layer to 8 x 8 positions (at 256 px) is followed by five transposed convolutions.
    """

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
    """Build the VAE of `config`, freshly initialised.

    Its memory format is channels_last, which is 2.3 times faster on CPU.
    """
    vae = VAE(ResNet18Encoder(config), ConvDecoder(config), rebuilt_size=config.rebuilt_size)
    return vae.to(memory_format=torch.channels_last)
