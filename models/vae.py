"""A variational autoencoder is an encoder that gives a posterior, and a decoder."""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue, ITU-R BT.601


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Images (B, C, H, W) as a network of so many channels sees them: the grey of RGB for one."""
    if images.shape[1] == channels:
        return images
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return torch.einsum("c,bchw->bhw", weights, images)[:, None]


class Posterior(NamedTuple):
    """The diagonal Gaussian q(z|x)."""

    mu: Tensor  # (B, D)
    logvar: Tensor  # (B, D), log of the variance

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw z with the reparameterization trick. Returns (B, D)."""
        noise = torch.randn(
            self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype
        )
        return self.mu + noise * (0.5 * self.logvar).exp()


class VAEOutput(NamedTuple):
    """What one pass through the VAE gives."""

    posterior: Posterior
    logits: Tensor  # (B, C, S, S), before the sigmoid


class VAE(nn.Module):
    """Encoder and decoder. Latents are drawn in train mode and are the posterior mean in eval mode.

    Args:
        encoder: images (B, C, H, W) in [0, 1] -> `Posterior`.
        decoder: latents (B, D) -> logits (B, C, S, S).
        rebuilt_size: S, which is the side of the images, or less; they are shrunk to be compared.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, rebuilt_size: int) -> None:
        super().__init__()
        self.rebuilt_size = rebuilt_size
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, images: Tensor) -> Posterior:
        """Posterior of images (B, C, H, W) in [0, 1]."""
        return cast("Posterior", self.encoder(images))

    def targets(self, images: Tensor) -> Tensor:
        """What the decoder has to rebuild of images (B, C, H, W): what the encoder sees of them.

        Returns:
            (B, C', S, S), of S pixels a side, as the decoder draws them.
        """
        seen = to_channels(images, cast("int", self.encoder.image_channels))
        if seen.shape[-1] == self.rebuilt_size:
            return seen
        return F.adaptive_avg_pool2d(seen, self.rebuilt_size)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, C, S, S) in [0, 1] of latents (B, D)."""
        return torch.sigmoid(cast("Tensor", self.decoder(latents)))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) rebuilt from their posterior means."""
        return self.decode(self.encode(images).mu)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> VAEOutput:
        """Encode, draw (train mode) or take the mean (eval mode), and decode to `logits`."""
        posterior = self.encode(images)
        latents = posterior.sample(generator) if self.training else posterior.mu
        return VAEOutput(posterior, self.decoder(latents))
