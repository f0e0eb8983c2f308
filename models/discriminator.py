"""Discriminator of FactorVAE, between draws from q(z) and from the product of its marginals.

Kim and Mnih, Disentangling by Factorising, ICML 2018.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

JOINT, PERMUTED = 0, 1  # the classes, and the columns of the logits


class Discriminator(nn.Module):
    """Classifier of latents: six hidden layers of 1,000 units with leaky ReLU, and two logits."""

    def __init__(self, latent_dim: int, *, hidden: int = 1000, depth: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in pairwise([latent_dim, *[hidden] * depth]):
            layers += [nn.Linear(inner, outer), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 2))

    def forward(self, latents: Tensor) -> Tensor:
        """Compute the logits (B, 2) of JOINT and PERMUTED for latents (B, D)."""
        return cast("Tensor", self.layers(latents))


def permute_dims(latents: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Shuffle every latent across the batch on its own: (B, D) -> (B, D).

    This is algorithm 1 of Kim and Mnih. It turns draws from q(z) into draws from the product of
    the q(z_i).
    """
    noise = torch.rand(latents.shape, generator=generator, device=latents.device)
    return latents.gather(0, noise.argsort(dim=0))
