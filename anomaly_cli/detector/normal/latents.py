"""Fit the statistics of latents of normal images, which attention is compared with."""

from collections.abc import Iterable

import torch
from torch import Tensor

from anomaly_cli.detector.normal.moments import LocalMoments, Moments
from models.activations import Encoder, activate, local_latents
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics
from models.vae import PooledHead


@torch.no_grad()
def fit_latents(encoder: Encoder, batches: Iterable[Tensor]) -> AttentionStatistics:
    """Compute moments of latents and local latents, streamed in float64, on the CPU.

    The aggregate posterior follows the law of total variance: its variance is
    E[sigma^2] + Var[mu], not the mean of the variances.

    Args:
        encoder: in eval mode.
        batches: normal images, shape (B, 3, S, S) in [0, 1].
    """
    layer = encoder.layers[-1]
    is_pooled = isinstance(encoder.closed_head(layer), PooledHead)
    device = encoder.mu.weight.device
    mu, spread = Moments(), Moments()
    local = LocalMoments()
    for batch in batches:
        images = batch.to(device)
        activation = activate(encoder, images, layer)
        mu.add(activation.posterior.mu)
        spread.add(activation.posterior.logvar.exp())
        if is_pooled:
            local.add(local_latents(activation))
    latent = LatentStatistics(mu.mean, spread.mean + mu.variance)
    if not is_pooled:
        return AttentionStatistics(latent)
    return AttentionStatistics(latent, _local(local))


def _local(local: LocalMoments) -> LocalStatistics:
    moments = local.moments
    pooled_mean = moments.mean.mean(dim=(1, 2))
    pooled_variance = moments.mean_square.mean(dim=(1, 2)) - pooled_mean.square()
    return LocalStatistics(
        moments.mean.float(),
        moments.variance.float(),
        pooled_mean.float(),
        pooled_variance.float(),
        local.whitening(),
    )
