"""One function per loss term, one value per image; the caller averages over the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Reconstruction
from models.vae import VAEOutput


def reconstruction_loss(logits: Tensor, images: Tensor, kind: Reconstruction = "bce") -> Tensor:
    """Misfit between the decoder's output and the images, summed over pixels and channels.

    `bce`: binary cross-entropy in nats (the paper's; its floor is the entropy of the image).
    `mse`: half the summed squared error, a Gaussian of unit variance up to a constant.

    Args:
        logits: decoder output before the sigmoid, shape (B, C, H, W).
        images: targets in [0, 1], shape (B, C, H, W).
        kind: which of the two.

    Returns:
        One value per image, shape (B,).
    """
    if kind == "bce":
        misfit = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    else:
        misfit = 0.5 * (torch.sigmoid(logits) - images).square()
    return misfit.flatten(1).sum(dim=1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, diag(exp(logvar))) || N(0, I)) in nats, summed over latents.

    Args:
        mu: posterior means, shape (B, D).
        logvar: log of the posterior variances, shape (B, D).

    Returns:
        One value per image, shape (B,).
    """
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(dim=1)


def vae_loss_terms(
    output: VAEOutput, images: Tensor, kind: Reconstruction
) -> tuple[Tensor, Tensor]:
    """The two terms of the negative evidence lower bound: reconstruction (B,) and KL (B,)."""
    return (
        reconstruction_loss(output.logits, images, kind),
        kl_divergence(output.posterior.mu, output.posterior.logvar),
    )
