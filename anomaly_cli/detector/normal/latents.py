"""Fit the statistics of latents of normal images, which attention is compared with."""

from collections.abc import Iterable

import torch
from torch import Tensor

from anomaly_cli.detector.normal.moments import LocalMoments, Moments
from anomaly_cli.detector.together import in_shares
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

    def encode(batch: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        activation = activate(encoder, batch.to(device), layer)
        means, logvar = activation.posterior
        places = local_latents(activation).cpu() if is_pooled else None
        return means.cpu(), logvar.exp().cpu(), places

    mu, spread = Moments(), Moments()
    local = LocalMoments()
    for means, variances, places in in_shares(encode, batches):
        mu.add(means)
        spread.add(variances)
        if places is not None:
            local.add(places)
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
