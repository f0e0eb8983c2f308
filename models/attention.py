"""Gradient attention: maps of the positions in an image that the posterior of a latent depends on.

Notation: A (B, K, h, w) is the activation of the target layer, mu_i the posterior mean of latent
i, g_ik(p) = d mu_i / d A_k(p) its gradient at position p. A *weighting* turns gradient and
activation into a signed map S_i (h, w) of each latent; a *definition* (`Attention`) turns signed
maps into an anomaly map. `docs/method.md` gives the source of each.

| definition | signed map S_i(p) | anomaly map M(p) |
| --- | --- | --- |
| gradcam | sum_k mean_q g_ik(q) A_k(p) | mean_i ReLU(S_i) |
| paper | sum_k mean_q ReLU(g_ik(q)) A_k(p) | mean_i ReLU(S_i) |
| hires | sum_k g_ik(p) A_k(p) | mean_i ReLU(S_i) |
| layercam | sum_k ReLU(g_ik(p)) A_k(p) | mean_i ReLU(S_i) |
| diff_mahal | as gradcam | mean_i ReLU(d_i S_i), d_i = (mu_i - m_i) / (v_i + sigma_i^2) |
| official | S as gradcam, of sum_i mu_i | absolute value of S, after upsampling |
| diff_sample | S as gradcam, of sum_i u_i, u = m - mu + sqrt(v + sigma^2) eps | ReLU(S) |
| exact | z_i(p) = sum_k W_ik A_k(p) + b_i; its mean is mu_i | mean_i (z_i - E z_i)^2 / Var z_i |
| exact_position | as exact | as exact, with E and Var of each position |
| exact_covariance | u(p) = T(p) (z(p) - E z(p)), decorrelated at each position | mean_i u_i^2 |

T(p) is the symmetric square root of the inverse correlation matrix after scaling to unit variance,
so that the map is the Mahalanobis distance of z(p) divided by D, and u_i is the decorrelated value
that lies closest to latent i (Kessy, Lewin and Strimmer 2018, "ZCA-cor").

The encoder must be in eval mode: batch norm in train mode mixes the images of a batch.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.activations import Activation, local_latents
from models.config import EXACT, SUMMED, Attention, GradNorm
from models.gradients import Weighting, shared_signed_maps, signed_maps, sum_weights
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics
from models.vae import Posterior
from models.whitening import decorrelate

SHRINKAGE = 0.05  # share of the pooled variance that is added to the variance of each position

PER_LATENT = {
    Attention.GRADCAM: Weighting.MEAN,
    Attention.PAPER: Weighting.POSITIVE_MEAN,
    Attention.DIFF_MAHAL: Weighting.MEAN,
    Attention.HIRES: Weighting.LOCAL,
    Attention.LAYERCAM: Weighting.POSITIVE_LOCAL,
}


class SumOptions(NamedTuple):
    """Options of the definitions that take the gradient of one sum over latents."""

    grad_norm: GradNorm = "none"  # for `official`; "batch" is the authors', and mixes images
    samples: int = 0  # draws of eps for `diff_sample`; 0 stands for the mean, eps = 0
    generator: torch.Generator | None = None


def latent_deviation(posterior: Posterior, statistics: LatentStatistics) -> Tensor:
    """Compute the slope of the squared distance, d_i = (mu_i - m_i) / (v_i + sigma_i^2): (B, D).

    The difference of two Gaussians in equation 5 has the variance v_i + sigma_i^2. Minus the
    logarithm of its density at 0 is (mu_i - m_i)^2 / (2 (v_i + sigma_i^2)) plus terms without
    mu_i, and d_i is its slope in mu_i.
    """
    return (posterior.mu - statistics.mean) / (statistics.variance + posterior.logvar.exp())


def latent_attention_maps(
    activation: Activation,
    attention: Attention,
    statistics: AttentionStatistics,
    *,
    signed: Tensor | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Compute the attention map of each latent; the mean over latents is the anomaly map.

    Args:
        activation: from `activate`.
        attention: a definition with a map for each latent.
        statistics: of normal images.
        signed: result of `signed_maps` for the definition's weighting; computed if it is None.
        create_graph: let gradients flow from the maps into the parameters.

    Returns:
        Shape (B, D, h, w), not negative.

    Raises:
        ValueError: the definition has no map for each latent, does not exist at this layer, or
            needs statistics that are not given.
    """
    if attention in SUMMED:
        raise ValueError(f"{attention} takes one gradient of a sum: it has no map for each latent")
    with torch.set_grad_enabled(create_graph):
        if attention in EXACT:
            return _squared_deviation(activation, attention, statistics)
        weighting = PER_LATENT[attention]
    if signed is None:
        signed = signed_maps(activation, [weighting], create_graph=create_graph)[weighting]
    with torch.set_grad_enabled(create_graph):
        if attention is Attention.DIFF_MAHAL:
            deviation = latent_deviation(activation.posterior, statistics.latent)
            return F.relu(deviation[:, :, None, None] * signed)
        return F.relu(signed)


def _squared_deviation(
    activation: Activation, attention: Attention, normal: AttentionStatistics
) -> Tensor:
    statistics, local = normal.local, local_latents(activation)
    if statistics is None:
        raise ValueError(f"{attention} needs the statistics of local latents")
    if attention is Attention.EXACT_COVARIANCE:
        return _decorrelated(local, statistics).square()
    pooled_variance = statistics.pooled_variance[:, None, None]
    if attention is Attention.EXACT:
        return (local - statistics.pooled_mean[:, None, None]).square() / pooled_variance
    variance = statistics.variance + SHRINKAGE * pooled_variance
    return (local - statistics.mean).square() / variance


def _decorrelated(local: Tensor, statistics: LocalStatistics) -> Tensor:
    if statistics.whitening is None:
        raise ValueError("this definition needs the covariances of local latents")
    deviation = local - statistics.mean
    return decorrelate(deviation, statistics.whitening)


def anomaly_maps_of_layers(
    wanted: Sequence[tuple[Activation, Collection[Attention]]],
    statistics: AttentionStatistics,
    size: tuple[int, int],
    *,
    options: SumOptions | None = None,
) -> list[dict[Attention, Tensor]]:
    """Compute anomaly maps of several layers and definitions, which share their gradients.

    Each map is upsampled bilinearly once, after the mean over latents: both are linear, so their
    order does not matter.

    Args:
        wanted: activations from one call of `activate_layers`, and the definitions for each.
        statistics: of normal images.
        size: height and width of the maps.
        options: for the definitions that take the gradient of a sum over latents.

    Returns:
        For each activation, maps (B, *size) by definition.

    Raises:
        ValueError: a definition does not exist at a layer.
    """
    weightings = [
        dict.fromkeys(PER_LATENT[a] for a in attentions if a in PER_LATENT)
        for _, attentions in wanted
    ]
    activations = [activation for activation, _ in wanted]
    signed = shared_signed_maps(list(zip(activations, weightings, strict=True)))
    return [
        _anomaly_maps(activation, attentions, of_layer, statistics, size, options or SumOptions())
        for (activation, attentions), of_layer in zip(wanted, signed, strict=True)
    ]


def _anomaly_maps(
    activation: Activation,
    attentions: Collection[Attention],
    signed: Mapping[Weighting, Tensor],
    statistics: AttentionStatistics,
    size: tuple[int, int],
    options: SumOptions,
) -> dict[Attention, Tensor]:
    maps = {}
    for attention in attentions:
        if attention in SUMMED:
            drawn = _summed_map(activation, attention, statistics, options)
        else:
            of_weighting = signed.get(PER_LATENT.get(attention, Weighting.MEAN))
            drawn = latent_attention_maps(
                activation, attention, statistics, signed=of_weighting
            ).mean(dim=1)
        scaled = F.interpolate(drawn[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        # The authors take the absolute value after upsampling; the order matters.
        maps[attention] = scaled.abs() if attention is Attention.OFFICIAL else scaled
    return maps


def _summed_map(
    activation: Activation,
    attention: Attention,
    statistics: AttentionStatistics,
    options: SumOptions,
) -> Tensor:
    """Compute the map (B, h, w) of a definition that takes the gradient of a sum over latents."""
    if attention is Attention.OFFICIAL:
        weights = sum_weights(activation, lambda posterior: posterior.mu.sum(), options.grad_norm)
        return torch.einsum("bk,bkhw->bhw", weights, activation.features.detach())
    draws = []
    for _ in range(max(1, options.samples)):
        noise = _noise(activation.posterior.mu, options)

        def score(posterior: Posterior, noise: Tensor = noise) -> Tensor:
            mean, variance = statistics.latent
            return (mean - posterior.mu + (variance + posterior.logvar.exp()).sqrt() * noise).sum()

        weights = sum_weights(activation, score)
        draws.append(F.relu(torch.einsum("bk,bkhw->bhw", weights, activation.features.detach())))
    return torch.stack(draws).mean(dim=0)


def _noise(like: Tensor, options: SumOptions) -> Tensor:
    if options.samples == 0:
        return torch.zeros_like(like)
    return torch.randn(
        like.shape, generator=options.generator, device=like.device, dtype=like.dtype
    )


def mean_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average the terms (B, D, h, w) of a map, and enlarge the mean bilinearly to (B, *size)."""
    mean = maps.mean(dim=1, keepdim=True)
    return F.interpolate(mean, size, mode="bilinear", align_corners=False)[:, 0]
