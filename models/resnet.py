"""The VAE of the MVTec experiments: ResNet18 encoder that gives its stages by name, ConvT decoder.

Bhattad, Liu et al. (CVPR 2020) leave stem, pooling and decoder open; `docs/method.md` says what
was chosen and why.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from models.config import STAGES, Layer, VAEConfig
from models.vae import VAE, Posterior

FEATURES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}  # channels of each stage
STRIDE = 32  # of layer4

# Statistics of ImageNet, so that pretrained and fresh encoders see the same input.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class AffineHead(NamedTuple):
    """Posterior parameters as an affine function of one activation A (B, K, h, w).

    `pooled`: v_i = sum_k W_ik mean_p A_kp + b_i, weight (D, K).
    Otherwise: v_i = sum_kp W_ikp A_kp + b_i, weight (D, K, h, w).
    """

    mu_weight: Tensor
    mu_bias: Tensor  # (D,)
    logvar_weight: Tensor
    logvar_bias: Tensor  # (D,)

    @property
    def is_pooled(self) -> bool:
        """Whether the head sees only the global average of the activation."""
        return self.mu_weight.ndim == 2


class ResNet18Encoder(nn.Module):
    """torchvision's ResNet18 up to layer4, then one affine head for each posterior parameter.

    Parameter names are torchvision's, so its state dictionaries load as they are. Every stage ends
    in a ReLU whose output no later operation overwrites, so attention may read it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        backbone = resnet18(weights=None)
        self.conv1, self.bn1 = backbone.conv1, backbone.bn1
        self.relu, self.maxpool = backbone.relu, backbone.maxpool
        self.layer1, self.layer2 = backbone.layer1, backbone.layer2
        self.layer3, self.layer4 = backbone.layer3, backbone.layer4
        self.head = config.head
        self.grid = config.image_size // STRIDE
        width = FEATURES["layer4"] * (self.grid**2 if self.head == "flatten" else 1)
        self.mu = nn.Linear(width, config.latent_dim)
        self.logvar = nn.Linear(width, config.latent_dim)
        # A posterior of unit variance is a calm start: exp(logvar) cannot overflow at step one.
        nn.init.zeros_(self.logvar.weight)
        nn.init.zeros_(self.logvar.bias)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), False)

    def features(self, images: Tensor, layer: Layer) -> Tensor:
        """Activation A (B, K, h, w) of stage `layer` for images (B, 3, H, W) in [0, 1]."""
        hidden: Tensor = (images - self.pixel_mean) / self.pixel_std
        hidden = self.maxpool(self.relu(self.bn1(self.conv1(hidden))))
        for name in STAGES[: STAGES.index(layer) + 1]:
            hidden = getattr(self, name)(hidden)
        return hidden

    def posterior(self, features: Tensor, layer: Layer) -> Posterior:
        """Posterior of an activation of stage `layer`: the part of the encoder above it."""
        hidden = features
        for name in STAGES[STAGES.index(layer) + 1 :]:
            hidden = getattr(self, name)(hidden)
        pooled = hidden.mean(dim=(2, 3)) if self.head == "gap" else hidden.flatten(1)
        return Posterior(self.mu(pooled), self.logvar(pooled))

    def affine_head(self, layer: Layer) -> AffineHead | None:
        """The head above `layer` where that is affine, else None: then gradients need autograd."""
        if layer != STAGES[-1]:
            return None
        shape = (-1, FEATURES[layer], self.grid, self.grid)
        weights = [self.mu.weight, self.logvar.weight]
        if self.head == "flatten":
            weights = [weight.view(shape) for weight in weights]
        return AffineHead(weights[0], self.mu.bias, weights[1], self.logvar.bias)

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Take convolutions and norms from a torchvision ResNet18; its classifier is left out.

        Raises:
            RuntimeError: a tensor is missing, is of another shape, or belongs to another network.
        """
        own = {name for name in self.state_dict() if not name.startswith(("mu.", "logvar."))}
        given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        if missing := sorted(own - given.keys()):
            raise RuntimeError(f"{len(missing)} tensors are missing, such as {missing[0]}")
        if unknown := sorted(given.keys() - own):
            raise RuntimeError(f"{len(unknown)} tensors are not ResNet18's, such as {unknown[0]}")
        self.load_state_dict(given, strict=False)

    def forward(self, images: Tensor) -> Posterior:
        """Posterior of images (B, 3, H, W) in [0, 1]."""
        return self.posterior(self.features(images, STAGES[-1]), STAGES[-1])


class ConvDecoder(nn.Sequential):
    """Latents (B, D) -> logits (B, 3, S, S): one affine layer to 8 x 8 (at 256 px), five ConvT."""

    def __init__(self, config: VAEConfig) -> None:
        grid = config.image_size // STRIDE
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
    vae = VAE(ResNet18Encoder(config), ConvDecoder(config))
    return vae.to(memory_format=torch.channels_last)
