"""Shapes of the networks. Loads no torch, so that the command line can read the defaults."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

Layer = Literal["layer1", "layer2", "layer3", "layer4"]  # strides 4, 8, 16, 32
STAGES: tuple[Layer, ...] = get_args(Layer)
Head = Literal["gap", "flatten"]
Reconstruction = Literal["bce", "mse"]


class Attention(StrEnum):
    """How the signed maps S_i of the latents become one anomaly map (`models.attention`)."""

    GRADCAM = "gradcam"
    """M = mean_i ReLU(S_i): where the latents look at all. It knows nothing of normal images."""

    DIFF_MAHAL = "diff_mahal"
    """M = mean_i ReLU(d_i S_i), d_i = (mu_i - m_i) / (v_i + sigma_i^2): what pushes the latents
    away from where normal images lie. The gradient of the squared distance of equation 5."""


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Shape and objective of the ResNet18 VAE.

    Raises:
        ValueError: a value is out of range.
    """

    image_size: int = 256  # pixels, square; a multiple of 32
    latent_dim: int = 32
    head: Head = "gap"  # what lies between layer4 and the posterior: global average or flatten
    reconstruction: Reconstruction = "bce"
    beta: float = 1.0  # weight of the KL term; 1 is the paper's

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}")
        if self.head not in get_args(Head):
            raise ValueError(f"head must be one of {', '.join(get_args(Head))}, got {self.head}")
        if self.reconstruction not in get_args(Reconstruction):
            known = ", ".join(get_args(Reconstruction))
            raise ValueError(f"reconstruction must be one of {known}, got {self.reconstruction}")
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {self.latent_dim}")
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")
