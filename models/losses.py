"""Loss terms. Each function returns one value per image; the caller averages over the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Reconstruction
from models.discriminator import JOINT, PERMUTED
from models.objective import MapNorm, Pairs
from models.vae import VAEOutput

_EMPTY = 1e-12  # sum of a map below which it counts as empty


def reconstruction_loss(logits: Tensor, images: Tensor, kind: Reconstruction = "bce") -> Tensor:
    """Compute the misfit of the decoder's output and the images, summed over pixels and channels.

    `bce` is the binary cross-entropy in nats. It is the paper's, and its lowest value is the
    entropy of the image. `mse` is half the summed squared error: the negative log-likelihood of a
    Gaussian of unit variance, up to a constant.

    Args:
        logits: decoder output before the sigmoid, shape (B, C, H, W).
        images: targets in [0, 1], shape (B, C, H, W).
        kind: `bce` or `mse`.

    Returns:
        One value per image, shape (B,).
    """
    if kind == "bce":
        misfit = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    else:
        misfit = 0.5 * (torch.sigmoid(logits) - images).square()
    return misfit.flatten(1).sum(dim=1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Compute KL(N(mu, diag(exp(logvar))) || N(0, I)) in nats, summed over latents.

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
    """Compute the terms of the negative evidence lower bound: reconstruction (B,) and KL (B,)."""
    return (
        reconstruction_loss(output.logits, images, kind),
        kl_divergence(output.posterior.mu, output.posterior.logvar),
    )


def total_correlation(logits: Tensor) -> Tensor:
    """Estimate KL(q(z) || prod_i q(z_i)) in nats from the discriminator: log D / (1 - D).

    An average over images may be negative, because the discriminator is not perfect.

    Args:
        logits: of the discriminator at latents drawn from q(z), shape (B, 2).

    Returns:
        One value per image, shape (B,).
    """
    return logits[:, JOINT] - logits[:, PERMUTED]


def discriminator_loss(joint: Tensor, permuted: Tensor) -> Tensor:
    """Compute the cross-entropy in nats of classifying draws of q(z) and permuted ones.

    A discriminator that guesses at random has ln 2.

    Args:
        joint: logits at latents drawn from q(z), shape (B, 2).
        permuted: logits at as many permuted latents, shape (B, 2).

    Returns:
        One value per pair of draws, the mean of the two, shape (B,).
    """
    is_joint, is_permuted = F.log_softmax(joint, dim=1), F.log_softmax(permuted, dim=1)
    return -0.5 * (is_joint[:, JOINT] + is_permuted[:, PERMUTED])


def latent_pairs(maps: Tensor, pairs: Pairs, draw: tuple[int, int] = (0, 1)) -> Tensor:
    """Choose the pairs of latents whose maps should not overlap.

    Args:
        maps: attention maps, shape (B, D, h, w) with D >= 2.
        pairs: `random`: the one pair `draw`. `top2`: in each image the two latents whose maps
            have the largest sums. `all`: all D (D - 1) / 2.
        draw: two distinct latents.

    Returns:
        Indices of latents, shape (B, P, 2), or (1, P, 2) where all images have the same pairs.
    """
    if pairs == "random":
        return torch.tensor([[draw]], device=maps.device)
    if pairs == "top2":
        return maps.detach().sum(dim=(2, 3)).topk(2, dim=1).indices[:, None]
    count = maps.shape[1]
    return torch.triu_indices(count, count, 1, device=maps.device).T[None]


def attention_disentanglement_loss(
    maps: Tensor, pairs: Tensor, map_norm: MapNorm = "none"
) -> Tensor:
    """Compute the overlap of the attention maps of pairs of latents: equation 6 of the paper.

    L(A, A') = 2 sum_p min(A(p), A'(p)) / sum_p (A(p) + A'(p)) is 1 for equal maps and 0 for maps
    that share no position. With `none`, the paper's, it also falls if one of the maps merely
    shrinks. With `sum`, each map is divided by its sum first, and only the shapes matter.

    Args:
        maps: attention maps as functions of the parameters, not negative, shape (B, D, h, w).
        pairs: from `latent_pairs`, shape (B, P, 2) or (1, P, 2).
        map_norm: `none` or `sum`.

    Returns:
        One value per image in [0, 1], the mean over its pairs, shape (B,). A pair with an empty
        map has 0.
    """
    flat = maps.flatten(2)
    if map_norm == "sum":
        flat = flat / flat.sum(dim=2, keepdim=True).clamp_min(_EMPTY)
    rows = torch.arange(len(flat), device=maps.device)[:, None]
    first, second = flat[rows, pairs[..., 0]], flat[rows, pairs[..., 1]]  # (B, P, h w)
    shared = 2.0 * torch.minimum(first, second).sum(dim=2)
    return (shared / (first + second).sum(dim=2).clamp_min(_EMPTY)).mean(dim=1)
