"""Gradient attention of latents: where in the image does the posterior mean of each latent look?

Notation: A (B, K, h, w) is the activation of the target layer, mu_i the posterior mean of latent i,
alpha_ik = mean_p d mu_i / d A_kp its gradient, averaged over the positions p (Grad-CAM weights).
The signed map of a latent is S_i(p) = sum_k alpha_ik A_k(p); every definition is built from it.

The encoder must be in eval mode: batch norm in train mode mixes the images of a batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Attention, Layer
from models.resnet import AffineHead, ResNet18Encoder
from models.vae import Posterior


class LatentStatistics(NamedTuple):
    """Aggregate posterior of the normal images, moment-matched by the law of total variance."""

    mean: Tensor  # (D,), E[mu]
    variance: Tensor  # (D,), E[sigma^2] + Var[mu]


class LatentMaps(NamedTuple):
    """Signed maps of all latents of a batch, before any definition is chosen."""

    signed: Tensor  # (B, D, h, w)
    posterior: Posterior


def latent_maps(encoder: ResNet18Encoder, images: Tensor, layer: Layer) -> LatentMaps:
    """Signed maps S_i(p) = sum_k alpha_ik A_k(p) at the target layer.

    The encoder runs once and the decoder never. Where the encoder above the layer is affine, alpha
    is read off its weights; elsewhere each latent costs one vector-Jacobian product.

    Args:
        encoder: in eval mode.
        images: (B, 3, H, W) in [0, 1].
        layer: target layer, one of `models.config.STAGES`.

    Raises:
        ValueError: the encoder is in train mode.
    """
    if encoder.training:
        raise ValueError("attention needs the encoder in eval mode: train mode mixes images")
    with torch.no_grad():
        features = encoder.features(images, layer)
        if head := encoder.affine_head(layer):
            weights = affine_weights(head, features)
            posterior = encoder.posterior(features, layer)
            return LatentMaps(torch.einsum("ik,bkhw->bihw", weights, features), posterior)
    weights, posterior = gradient_weights(encoder, features, layer)
    return LatentMaps(torch.einsum("bik,bkhw->bihw", weights, features), posterior)


def affine_weights(head: AffineHead, features: Tensor) -> Tensor:
    """Weights alpha (D, K) of an affine head: its own weights, the same for each image."""
    if head.is_pooled:
        return head.mu_weight / (features.shape[2] * features.shape[3])
    return head.mu_weight.mean(dim=(2, 3))


def gradient_weights(
    encoder: ResNet18Encoder, features: Tensor, layer: Layer
) -> tuple[Tensor, Posterior]:
    """Weights alpha (B, D, K) by one vector-Jacobian product for each latent, and the posterior."""
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        posterior = encoder.posterior(features, layer)
        totals = posterior.mu.sum(dim=0)  # images do not mix in eval mode
        weights = [
            torch.autograd.grad(total, features, retain_graph=True)[0].mean(dim=(2, 3))
            for total in totals
        ]
    return torch.stack(weights, dim=1), Posterior(*(part.detach() for part in posterior))


def latent_deviation(posterior: Posterior, statistics: LatentStatistics) -> Tensor:
    """d_i = (mu_i - m_i) / (v_i + sigma_i^2), shape (B, D): the gradient of the squared distance.

    Equation 5's difference of two Gaussians has variance v_i + sigma_i^2; minus the logarithm of
    its density at 0 is (mu_i - m_i)^2 / (2 (v_i + sigma_i^2)), and d_i is its slope in mu_i.
    """
    return (posterior.mu - statistics.mean) / (statistics.variance + posterior.logvar.exp())


def latent_attention_maps(
    maps: LatentMaps, attention: Attention, statistics: LatentStatistics
) -> Tensor:
    """Non-negative attention map of each latent, (B, D, h, w), by the chosen definition."""
    if attention is Attention.GRADCAM:
        return F.relu(maps.signed)
    deviation = latent_deviation(maps.posterior, statistics)
    return F.relu(deviation[:, :, None, None] * maps.signed)


def anomaly_attention_map(
    maps: LatentMaps, attention: Attention, statistics: LatentStatistics
) -> Tensor:
    """Anomaly map (B, h, w) at the target layer's resolution: the mean over latents."""
    return latent_attention_maps(maps, attention, statistics).mean(dim=1)
