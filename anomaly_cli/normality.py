"""What is known of normal images: moments of their latents, and scales of their maps."""

from collections.abc import Iterable

import torch
from torch import Tensor

from models.attention import LatentStatistics, LocalStatistics, NormalStatistics
from models.gradients import Encoder, activate, local_latents
from models.heads import PooledHead


@torch.no_grad()
def normal_statistics(encoder: Encoder, batches: Iterable[Tensor]) -> NormalStatistics:
    """Statistics of normal images (B, 3, S, S), streamed in float64, on the CPU.

    The aggregate posterior follows the law of total variance: its variance is
    E[sigma^2] + Var[mu], not the mean of the variances.
    """
    layer = encoder.layers[-1]
    is_pooled = isinstance(encoder.closed_head(layer), PooledHead)
    device = encoder.mu.weight.device
    mu, spread, local = Moments(), Moments(), Moments()
    for batch in batches:
        activation = activate(encoder, batch.to(device), layer)
        mu.add(activation.posterior.mu)
        spread.add(activation.posterior.logvar.exp())
        if is_pooled:
            local.add(local_latents(activation))
    latent = LatentStatistics(mu.mean, spread.mean + mu.variance)
    if not is_pooled:
        return NormalStatistics(latent)
    pooled_mean = local.mean.mean(dim=(1, 2))
    pooled_variance = local.mean_square.mean(dim=(1, 2)) - pooled_mean.square()
    return NormalStatistics(
        latent,
        LocalStatistics(
            local.mean.float(), local.variance.float(), pooled_mean.float(), pooled_variance.float()
        ),
    )


class Moments:
    """Mean and variance over images, in float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.sum_of_squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Values of a batch, (B, ...)."""
        values = values.detach().double().cpu()
        self.count += len(values)
        self.sum = self.sum + values.sum(dim=0)
        self.sum_of_squares = self.sum_of_squares + values.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum) / self.count

    @property
    def mean_square(self) -> Tensor:
        """Over images, (...)."""
        return torch.as_tensor(self.sum_of_squares) / self.count

    @property
    def variance(self) -> Tensor:
        """Over images, (...); not negative."""
        return (self.mean_square - self.mean.square()).clamp_min(0.0)
