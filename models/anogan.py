"""AnoGAN: a DCGAN of normal images, and the search for the image that it draws most alike.

Schlegl et al., Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
Discovery, IPMI 2017. The networks are those of Radford et al., Unsupervised Representation Learning
with Deep Convolutional Generative Adversarial Networks, ICLR 2016.
"""

from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.config import AnoGANConfig
from models.tiling import map_in_patches

SEARCH_RATE = 0.1  # learning rate of Adam in the search; latents are in [-1, 1]
STARTS = 64  # drawn latents; the search for an image begins at the best of them
_WIDEST = 16  # no layer has more than this many times the channels of the widest grid
_SLOPE = 0.2  # of the leaky ReLU
_SPREAD = 0.02  # standard deviation of the weights before training


class Search(NamedTuple):
    """Latents that a search found, with its loss of each image before and after."""

    latents: Tensor  # (B, D)
    first: Tensor  # (B,), loss at the start
    best: Tensor  # (B,), loss at `latents`, never above `first`


class Comparison(NamedTuple):
    """Images compared with what the generator draws for them."""

    maps: Tensor  # (B, S, S), absolute difference, averaged over the channels
    expected: Tensor  # (B, 3, S, S) in [0, 1]


def hidden_channels(config: AnoGANConfig) -> list[int]:
    """List the channels of the hidden layers: from 4 x 4 positions to half the input's side."""
    finest = config.input_size // 2
    doublings = range((finest // 4).bit_length())
    return [config.width * min(_WIDEST, finest // (4 << doubling)) for doubling in doublings]


class Generator(nn.Module):
    """Generator of DCGAN: transposed convolutions 4 x 4 with stride 2, batch norm and ReLU."""

    def __init__(self, config: AnoGANConfig) -> None:
        super().__init__()
        channels = hidden_channels(config)
        layers: list[nn.Module] = [
            nn.Unflatten(1, (config.latent_dim, 1, 1)),
            nn.ConvTranspose2d(config.latent_dim, channels[0], 4, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        for inner, outer in pairwise(channels):
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outer), nn.ReLU()]
        layers += [nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Draw images (B, 3, side, side) in [0, 1] from latents (B, D)."""
        return cast("Tensor", (self.layers(latents) + 1) / 2)


class Discriminator(nn.Module):
    """Discriminator of DCGAN, the mirror of the generator, with leaky ReLU."""

    def __init__(self, config: AnoGANConfig) -> None:
        super().__init__()
        channels = hidden_channels(config)[::-1]
        # DCGAN has no batch norm in the layer that sees the image.
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        for inner, outer in pairwise(channels):
            layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outer), nn.LeakyReLU(_SLOPE)]
        self.hidden = nn.Sequential(*layers)
        self.verdict = nn.Conv2d(channels[-1], 1, 4)

    def features(self, images: Tensor) -> Tensor:
        """Compute the last hidden layer (B, K, 4, 4) of images (B, 3, side, side) in [0, 1]."""
        return cast("Tensor", self.hidden(2 * images - 1))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logit (B,) that an image (B, 3, side, side) in [0, 1] is a real one."""
        return cast("Tensor", self.verdict(self.features(images))).flatten()


class AnoGAN(nn.Module):
    """Generator and discriminator of normal images, with a map of how an image departs from them.

    For each image x, a latent z is looked for whose drawing G(z) resembles it:

        loss(z) = (1 - lambda) mean |x - G(z)| + lambda mean |f(x) - f(G(z))|

    with the features f of the discriminator. The generator knows normal images alone, so it does
    not draw a defect, and |x - G(z)| is the anomaly map.

    All methods but the training's need the eval mode: only then does an image's result not depend
    on the other images of the batch.
    """

    def __init__(self, config: AnoGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)  # faster on a CPU

    def draw_latents(self, count: int, noise: torch.Generator) -> Tensor:
        """Draw latents (count, D), uniform in [-1, 1], on the device of `noise`."""
        shape = (count, self.config.latent_dim)
        return 2 * torch.rand(shape, generator=noise, device=noise.device) - 1

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Tensor:
        """Draw images (count, 3, side, side) in [0, 1]; each seed has its own."""
        latents = self.draw_latents(count, torch.Generator().manual_seed(seed))
        return cast("Tensor", self.generator(latents.to(self._device)))

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [0, 1] to their differences from G(z): (B, S, S)."""
        return self.compare(images).maps

    def expected(self, images: Tensor) -> Tensor:
        """Draw what the network takes images (B, 3, S, S) for: (B, 3, S, S) in [0, 1]."""
        return self.compare(images).expected

    def compare(self, images: Tensor) -> Comparison:
        """Compute both anomaly maps and expected images, with one search.

        Large images are compared in overlapping patches, whose results are averaged.

        Args:
            images: shape (B, 3, S, S), in [0, 1].
        """
        both = map_in_patches(images, self.config.input_size, self._compare_patches)
        return Comparison(both[:, 0], both[:, 1:])

    def _compare_patches(self, images: Tensor) -> Tensor:
        """Compute the map and the three channels of G(z): (B, 4, side, side)."""
        with torch.no_grad():
            drawn = self.generator(self.search(images).latents)
            return torch.cat([(images - drawn).abs().mean(1, keepdim=True), drawn], dim=1)

    def search(self, images: Tensor) -> Search:
        """Look for the latents whose drawings resemble images (B, 3, side, side) in [0, 1].

        Adam begins at the best of some drawn latents, the same ones for all images. The images
        share neither gradients nor moments. Of all latents that Adam visits, the best are kept.
        """
        with torch.enable_grad():
            features = self.discriminator.features(images).detach()
            latents = self._start(images, features).requires_grad_()
            optimizer = torch.optim.Adam([latents], lr=SEARCH_RATE)
            first = best = torch.empty(0)
            found = latents.detach().clone()
            for step in range(self.config.search_steps + 1):
                losses = self._search_losses(latents, images, features)
                with torch.no_grad():
                    if step == 0:
                        first = best = losses.detach()
                    found = torch.where((losses < best)[:, None], latents, found)
                    best = torch.minimum(losses, best)
                if step < self.config.search_steps:
                    # Not backward(), which would leave gradients in the networks.
                    (latents.grad,) = torch.autograd.grad(losses.sum(), latents)
                    optimizer.step()
        return Search(found.detach(), first, best.detach())

    @torch.no_grad()
    def _start(self, images: Tensor, features: Tensor) -> Tensor:
        """Choose the best of `STARTS` drawn latents for each image: (B, D)."""
        latents = self.draw_latents(STARTS, torch.Generator().manual_seed(0)).to(images)
        drawn = self.generator(latents)
        losses = self._weigh(
            _pair_distances(images, drawn),
            _pair_distances(features, self.discriminator.features(drawn)),
        )
        return latents[losses.argmin(dim=1)]

    def _search_losses(self, latents: Tensor, images: Tensor, features: Tensor) -> Tensor:
        drawn = self.generator(latents)
        residual = (images - drawn).abs().mean(dim=(1, 2, 3))
        difference = (features - self.discriminator.features(drawn)).abs().mean(dim=(1, 2, 3))
        return self._weigh(residual, difference)

    def _weigh(self, residual: Tensor, difference: Tensor) -> Tensor:
        return residual.lerp(difference, self.config.feature_weight)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def _pair_distances(first: Tensor, second: Tensor) -> Tensor:
    """Compute the mean absolute difference of all pairs of (B, ...) and (N, ...): (B, N)."""
    flat, others = first.flatten(1), second.flatten(1)
    return torch.cdist(flat, others, p=1) / flat.shape[1]


def _initialise(module: nn.Module) -> None:
    """Draw the weights before training as DCGAN does."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, _SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, _SPREAD)
