"""Weights of the loss of disentangling VAEs. Loads no torch, so the command line can read them."""

from dataclasses import dataclass
from typing import Literal

Pairs = Literal["random", "top2", "all"]
MapNorm = Literal["none", "sum"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the loss: reconstruction + beta KL + gamma TC + lambda L_AD, in nats per image.

    This is equation 7 of the paper. With some of the weights at zero, it is the loss of each
    method that the paper compares.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    beta: float = 1.0  # weight of the KL term
    gamma: float = 0.0  # weight of the total correlation; 0: there is no discriminator
    overlap: float = 0.0  # lambda, weight of the attention disentanglement loss
    pairs: Pairs = "random"  # latents whose maps should not overlap, see `losses.latent_pairs`
    map_norm: MapNorm = "none"  # sum: each map is divided by its sum first

    def __post_init__(self) -> None:
        """Refuse weights that are negative or not finite."""
        for name in ("beta", "gamma", "overlap"):
            weight = getattr(self, name)
            if not 0 <= weight < float("inf"):
                option = "lambda" if name == "overlap" else name
                raise ValueError(f"--{option} must be zero or positive, got {weight}")
