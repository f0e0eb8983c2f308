"""Variational autoencoder: an encoder that returns a posterior, and a decoder."""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue in grey, ITU-R BT.601


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images (B, C, H, W) to the channels of a network: RGB becomes grey for one."""
    if images.shape[1] == channels:
        return images
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


class Posterior(NamedTuple):
    """Diagonal Gaussian q(z|x)."""

    mu: Tensor  # (B, D)
    logvar: Tensor  # (B, D), log of the variance

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw z (B, D) with the reparameterization trick."""
        noise = torch.randn(
            self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype
        )
        return self.mu + noise * (0.5 * self.logvar).exp()


class VAEOutput(NamedTuple):
    """Output of one pass through the VAE."""

    posterior: Posterior
    logits: Tensor  # (B, C, S, S), before the sigmoid


class VAE(nn.Module):
    """Encoder and decoder. Latents are drawn in train mode and are the posterior mean in eval mode.

    Args:
        encoder: images (B, C, H, W) in [0, 1] -> `Posterior`.
        decoder: latents (B, D) -> logits (B, C, S, S).
        rebuilt_size: side S of the reconstructions. Larger images are shrunk to be compared.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, rebuilt_size: int) -> None:
        super().__init__()
        self.rebuilt_size = rebuilt_size
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, images: Tensor) -> Posterior:
        """Compute the posterior of images (B, C, H, W) in [0, 1]."""
        return cast("Posterior", self.encoder(images))

    def targets(self, images: Tensor) -> Tensor:
        """Convert images (B, C, H, W) to the size and channels of their reconstructions.

        Returns:
            Shape (B, C', S, S), with the C' channels that the encoder uses.
        """
        seen = to_channels(images, cast("int", self.encoder.image_channels))
        if seen.shape[-1] == self.rebuilt_size:
            return seen
        return F.adaptive_avg_pool2d(seen, self.rebuilt_size)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, D) to images (B, C, S, S) in [0, 1]."""
        return torch.sigmoid(cast("Tensor", self.decoder(latents)))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W) from their posterior means: (B, C', S, S)."""
        return self.decode(self.encode(images).mu)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> VAEOutput:
        """Encode, draw latents (train mode) or take their mean (eval mode), and decode."""
        posterior = self.encode(images)
        latents = posterior.sample(generator) if self.training else posterior.mu
        return VAEOutput(posterior, self.decoder(latents))


class PooledHead(NamedTuple):
    """Affine head on the global average: mu_i = sum_k W_ik mean_p A_k(p) + b_i."""

    mu_weight: Tensor  # (D, K)
    mu_bias: Tensor  # (D,)

    def local_latents(self, features: Tensor) -> Tensor:
        """Compute z_i(p) = sum_k W_ik A_k(p) + b_i, (B, D, h, w); the mean over p is mu_i."""
        return F.conv2d(features, self.mu_weight[:, :, None, None], self.mu_bias)


class FlatHead(NamedTuple):
    """Affine head on all positions: mu_i = sum_kp W_ik(p) A_k(p) + b_i."""

    mu_weight: Tensor  # (D, K, h, w)


class HiddenHead(NamedTuple):
    """Head with one hidden layer: mu_i = sum_n W_in ReLU(sum_kp V_nk(p) A_k(p) + c_n) + b_i."""

    mu_weight: Tensor  # (D, N)
    hidden_weight: Tensor  # (N, K, h, w)
    hidden_bias: Tensor  # (N,)


ClosedHead = PooledHead | FlatHead | HiddenHead
