"""Gradient attention of latents: where in the image does the posterior of each latent look?

Notation: A (B, K, h, w) is the activation of the target layer, mu_i the posterior mean of latent
i, g_ik(p) = d mu_i / d A_k(p) its gradient at position p. A *weighting* turns gradient and
activation into a signed map S_i (h, w) of each latent; a *definition* (`Attention`) turns signed
maps into an anomaly map. `docs/method.md` tells where each comes from.

| definition | signed map S_i(p) | anomaly map M(p) |
| --- | --- | --- |
| gradcam | sum_k mean_q g_ik(q) A_k(p) | mean_i ReLU(S_i) |
| paper | sum_k mean_q ReLU(g_ik(q)) A_k(p) | mean_i ReLU(S_i) |
| hires | sum_k g_ik(p) A_k(p) | mean_i ReLU(S_i) |
| layercam | sum_k ReLU(g_ik(p)) A_k(p) | mean_i ReLU(S_i) |
| diff_mahal | as gradcam | mean_i ReLU(d_i S_i), d_i = (mu_i - m_i) / (v_i + sigma_i^2) |
| official | as gradcam, of sum_i mu_i | the absolute value, after upsampling |
| diff_sample | as gradcam, of sum_i u_i, u = m - mu + sqrt(v + sigma^2) eps | ReLU |
| exact | z_i(p) = sum_k W_ik A_k(p) + b_i; its mean is mu_i | mean_i (z_i - E z_i)^2 / Var z_i |
| exact_position | the same, with mean and variance of each position | the same |
| exact_covariance | u(p) = T(p) (z(p) - E z(p)), decorrelated at each position | mean_i u_i^2 |
| exact_scales | the same, and v(p) of the image at half its side | mean_i (u_i^2 + v_i^2) / 2 |

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

from models.activations import Activation, Encoder, local_latents
from models.config import EXACT, SUMMED, Attention, GradNorm
from models.gradients import Weighting, shared_signed_maps, signed_maps, sum_weights
from models.heads import PooledHead
from models.statistics import LatentStatistics, LocalStatistics, NormalStatistics
from models.vae import Posterior
from models.whitening import decorrelate

SHRINKAGE = 0.05  # of the variances per position towards the pooled one

PER_LATENT = {
    Attention.GRADCAM: Weighting.MEAN,
    Attention.PAPER: Weighting.POSITIVE_MEAN,
    Attention.DIFF_MAHAL: Weighting.MEAN,
    Attention.HIRES: Weighting.LOCAL,
    Attention.LAYERCAM: Weighting.POSITIVE_LOCAL,
}


class SumOptions(NamedTuple):
    """Settings of the definitions that take the gradient of one sum over latents."""

    grad_norm: GradNorm = "none"  # of `official`; "batch" is the authors' and mixes images
    samples: int = 0  # of `diff_sample`; 0 takes the mean, eps = 0
    generator: torch.Generator | None = None


def supports(encoder: Encoder, attention: Attention, layer: str) -> bool:
    """Whether a definition exists at a layer: `exact` needs the head to be the global average."""
    return attention not in EXACT or isinstance(encoder.closed_head(layer), PooledHead)


def latent_deviation(posterior: Posterior, statistics: LatentStatistics) -> Tensor:
    """d_i = (mu_i - m_i) / (v_i + sigma_i^2), shape (B, D): the slope of the squared distance.

    Equation 5's difference of two Gaussians has variance v_i + sigma_i^2; minus the logarithm of
    its density at 0 is (mu_i - m_i)^2 / (2 (v_i + sigma_i^2)), and d_i is its slope in mu_i.
    """
    return (posterior.mu - statistics.mean) / (statistics.variance + posterior.logvar.exp())


def latent_attention_maps(
    activation: Activation,
    attention: Attention,
    statistics: NormalStatistics,
    *,
    signed: Tensor | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Attention map of each latent, (B, D, h, w), not negative; their mean is the anomaly map.

    Args:
        activation: of `activate`.
        attention: a definition with a map for each latent.
        statistics: of normal images.
        signed: what `signed_maps` gave for the definition's weighting, if it is there already.
        create_graph: let gradients flow from the maps into the parameters.

    Raises:
        ValueError: the definition has no map for each latent, or does not exist at this layer.
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
    activation: Activation, attention: Attention, normal: NormalStatistics
) -> Tensor:
    statistics, local = normal.local, local_latents(activation)
    if statistics is None:
        raise ValueError(f"{attention} needs the statistics of local latents")
    if attention is Attention.EXACT_COVARIANCE:
        return _decorrelated(local, statistics).square()
    if attention is Attention.EXACT_SCALES:
        if activation.half is None or normal.half is None:
            raise ValueError(f"{attention} needs activation and statistics at half the size")
        fine = _decorrelated(local, statistics).square()
        coarse = _decorrelated(local_latents(activation.half), normal.half).square()
        size = (fine.shape[2], fine.shape[3])
        enlarged = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        return (fine + enlarged) / 2
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


def anomaly_attention_maps(
    activation: Activation,
    attentions: Collection[Attention],
    statistics: NormalStatistics,
    size: tuple[int, int],
    *,
    options: SumOptions | None = None,
) -> dict[Attention, Tensor]:
    """Anomaly maps (B, *size) of several definitions, which share their gradients.

    Upsampled bilinearly, once for each map: the mean over latents commutes with it.

    Raises:
        ValueError: a definition does not exist at this layer.
    """
    (maps,) = anomaly_maps_of_layers([(activation, attentions)], statistics, size, options=options)
    return maps


def anomaly_maps_of_layers(
    wanted: Sequence[tuple[Activation, Collection[Attention]]],
    statistics: NormalStatistics,
    size: tuple[int, int],
    *,
    options: SumOptions | None = None,
) -> list[dict[Attention, Tensor]]:
    """The same for each of the activations of one call of `activate_layers`."""
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
    statistics: NormalStatistics,
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
    statistics: NormalStatistics,
    options: SumOptions,
) -> Tensor:
    """Map (B, h, w) of a definition that needs the gradient of one sum over latents."""
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
