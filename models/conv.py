"""Plain convolutional VAEs of the paper's experiments on small images."""

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from models.config import ConvVAEConfig
from models.vae import VAE, HiddenHead, Posterior, to_channels


class ConvEncoder(nn.Module):
    """Convolutions 4 x 4 with stride 2 and ReLU, a hidden layer, and affine heads of the posterior.

    The target layers are the outputs of the convolutions after their ReLU.
    """

    def __init__(self, config: ConvVAEConfig) -> None:
        super().__init__()
        widths = [config.image_channels, *config.channels]
        self.layers: tuple[str, ...] = config.layers
        self.image_channels = config.image_channels
        self.convs = nn.ModuleList(
            nn.Conv2d(inner, outer, 4, 2, 1) for inner, outer in pairwise(widths)
        )
        self.grid = config.image_size >> len(config.channels)
        self.hidden = nn.Linear(widths[-1] * self.grid**2, config.hidden)
        self.mu = nn.Linear(config.hidden, config.latent_dim)
        self.logvar = nn.Linear(config.hidden, config.latent_dim)

    def features(self, images: Tensor, layer: str) -> list[Tensor]:
        """Compute the target activation A (B, K, h, w) of images (B, C, H, W), as the only item.

        An encoder with one channel uses the grey of RGB images.
        """
        features = [to_channels(images, self.image_channels)]
        for name in self.layers[: self.layers.index(layer) + 1]:
            features = self.ascend(features, name)
        return features

    def ascend(self, features: list[Tensor], layer: str) -> list[Tensor]:
        """Compute the activation of `layer` from that of the layer below."""
        return [F.relu(self.convs[self.layers.index(layer)](features[-1]))]

    def posterior(self, features: list[Tensor], layer: str) -> Posterior:
        """Compute the posterior from the activation of `layer`."""
        for name in self.layers[self.layers.index(layer) + 1 :]:
            features = self.ascend(features, name)
        hidden = F.relu(self.hidden(features[-1].flatten(1)))
        return Posterior(self.mu(hidden), self.logvar(hidden))

    def closed_head(self, layer: str) -> HiddenHead | None:
        """Return the head if nothing else lies above `layer`.

        Otherwise it is None, and gradients need autograd.
        """
        if layer != self.layers[-1]:
            return None
        weight = self.hidden.weight.view(self.hidden.out_features, -1, self.grid, self.grid)
        return HiddenHead(self.mu.weight, weight, self.hidden.bias)

    def forward(self, images: Tensor) -> Posterior:
        """Compute the posterior of images (B, C, H, W) in [0, 1]."""
        layer = self.layers[-1]
        return self.posterior(self.features(images, layer), layer)


class ConvTDecoder(nn.Module):
    """Mirror of the encoder: two affine layers, then transposed convolutions to logits."""

    def __init__(self, config: ConvVAEConfig) -> None:
        super().__init__()
        sides = [config.image_size >> place for place in range(len(config.channels) + 1)]
        widths = [config.image_channels, *config.channels]
        self.shape = (widths[-1], sides[-1], sides[-1])
        self.affine = nn.Sequential(
            nn.Linear(config.latent_dim, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, widths[-1] * sides[-1] ** 2),
        )
        # The kernel is 5 x 5 where the side is odd (12 -> 25), as in reproductions of UCSD.
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(widths[place], widths[place - 1], 4 + sides[place - 1] % 2, 2, 1)
            for place in range(len(config.channels), 0, -1)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents (B, D) to logits (B, C, H, W)."""
        hidden = self.affine(latents).unflatten(1, self.shape)
        for conv in self.convs:
            hidden = conv(F.relu(hidden))
        return cast("Tensor", hidden)


def conv_vae(config: ConvVAEConfig) -> VAE:
    """Build the VAE of `config`, freshly initialised."""
    return VAE(ConvEncoder(config), ConvTDecoder(config), rebuilt_size=config.image_size)
