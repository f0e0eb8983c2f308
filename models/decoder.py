"""Decoder of transposed convolutions, from latents to images."""

from itertools import pairwise

from torch import nn

from models.config import VAEConfig

STRIDE = 32  # pixels of the image per position of the first activation


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
