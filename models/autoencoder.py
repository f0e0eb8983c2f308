"""Convolutional autoencoders whose maps are reconstruction errors (Bergmann et al. 2018)."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import AutoencoderConfig
from models.ssim import ssim_map
from models.tiling import map_in_patches, map_shrunk, random_patches, shrink

SLOPE = 0.2  # of the leaky ReLU where its input is negative


class _Conv(NamedTuple):
    channels: int
    kernel: int = 1  # pixels a side
    stride: int = 1  # with a padding of 1 the side stays, or is halved


IMAGES = _Conv(3)
CONVS = (  # of the encoder, in the table of Bergmann et al. 2018
    _Conv(32, 4, 2),
    _Conv(32, 4, 2),
    _Conv(32, 3, 1),
    _Conv(64, 4, 2),
    _Conv(64, 3, 1),
    _Conv(128, 4, 2),
    _Conv(64, 3, 1),
    _Conv(32, 3, 1),
)
STRIDE = 16  # pixels of the image per position of the last of them


class Autoencoder(nn.Module):
    """Autoencoder of Bergmann et al. 2018, which rebuilds images from a few numbers.

    A last convolution over all positions gives the latents, without an activation. The decoder
    mirrors the encoder with transposed convolutions. All other layers have a leaky ReLU, but for
    the last one, which has a sigmoid.

    The network sees images of 3 channels as a whole, shrunk to 128 pixels, or in overlapping
    patches if the settings say so. What it computes for patches is averaged where they overlap.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        grid = config.input_size // STRIDE
        pairs = list(pairwise((IMAGES, *CONVS)))
        self.encoder = _activate_between(
            *(nn.Conv2d(a.channels, b.channels, b.kernel, b.stride, 1) for a, b in pairs),
            nn.Conv2d(CONVS[-1].channels, config.latent_dim, grid),
        )
        self.decoder = _activate_between(
            nn.ConvTranspose2d(config.latent_dim, CONVS[-1].channels, grid, grid),
            *(
                nn.ConvTranspose2d(b.channels, a.channels, b.kernel, b.stride, 1)
                for a, b in reversed(pairs)
            ),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Reconstruct whole images or patches of the side `config.input_size`.

        Args:
            inputs: shape (B, 3, s, s) in [0, 1].

        Returns:
            Logits of the reconstructions, shape (B, 3, s, s); their sigmoid is in [0, 1].
        """
        return cast("Tensor", self.decoder(self.encoder(inputs)))

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, S, S) in [0, 1]: the same shape and range."""
        return self._see(images, self._rebuild)

    @torch.no_grad()
    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Compute how much images differ from their reconstructions, mean over channels.

        Args:
            images: shape (B, 3, S, S) in [0, 1].

        Returns:
            Shape (B, S, S) float32; the squared error in [0, 1], or 1 - SSIM in [0, 2].
        """
        return self._see(images, self._residuals)[:, 0]

    def _see(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        see = map_in_patches if self.config.patch_size else map_shrunk
        return see(images, self.config.input_size, compute)

    def draw_inputs(self, images: Tensor, noise: torch.Generator) -> Tensor:
        """Cut a random patch out of each image (B, 3, S, S), or shrink the whole images.

        Args:
            images: in [0, 1].
            noise: draws the places of patches; on the device of the images.

        Returns:
            Inputs of the network, shape (B, 3, s, s).
        """
        side = self.config.input_size
        if self.config.patch_size:
            return random_patches(images, side, noise)
        return shrink(images, side)

    def _rebuild(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(self(inputs)).float()

    def _residuals(self, inputs: Tensor) -> Tensor:
        rebuilt = self._rebuild(inputs)
        if self.config.loss == "l2":
            return (inputs - rebuilt).square().mean(dim=1, keepdim=True)
        # In float32, flat regions are exact to 4e-4 only, see `ssim_map`.
        dissimilarity = 1 - ssim_map(inputs.double(), rebuilt.double())
        return dissimilarity.clamp(min=0).float()[:, None]


def reconstruction_loss(logits: Tensor, targets: Tensor, config: AutoencoderConfig) -> Tensor:
    """Compute the loss that the settings name: the mean of the anomaly maps of the same inputs.

    Args:
        logits: of the reconstructions, shape (B, 3, H, W).
        targets: the inputs of the network, of the same shape, in [0, 1].
        config: settings of the network.

    Returns:
        A scalar: the squared error per pixel value, or 1 - SSIM per pixel.
    """
    rebuilt = torch.sigmoid(logits.float())
    if config.loss == "l2":
        return F.mse_loss(rebuilt, targets)
    return 1 - ssim_map(targets, rebuilt).mean()


def _activate_between(*layers: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Put a leaky ReLU between each two layers, and draw their weights."""
    modules: list[nn.Module] = []
    for layer in layers:
        _draw_weights(layer)
        modules += [layer, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*modules[:-1])


def _draw_weights(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Draw weights that keep the size of activations (He et al. 2015).

    There is no norm in the network. With the smaller weights that are the default of PyTorch, all
    images had the same latents, and training stayed at the mean image.
    """
    inputs = layer.in_channels * layer.kernel_size[0] ** 2  # of each value of the output
    if isinstance(layer, nn.ConvTranspose2d):
        inputs //= layer.stride[0] ** 2
    gain = nn.init.calculate_gain("leaky_relu", SLOPE)
    nn.init.normal_(layer.weight, std=gain / inputs**0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
