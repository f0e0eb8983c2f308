"""Gradients of the posterior means with respect to an activation, exact and at the lowest cost.

If only a head lies above the activation, its weights give the gradients. Otherwise they are
vector-Jacobian products.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from models.activations import Activation
from models.config import GradNorm
from models.vae import FlatHead, HiddenHead, PooledHead, Posterior

_EPSILON = 1e-5  # in the authors' normalisation of gradients


class Weighting(Enum):
    """Weights that the gradient of a latent gives to the channels of the activation."""

    MEAN = (False, False)  # averaged over positions: Grad-CAM
    POSITIVE_MEAN = (True, False)  # only gradients above 0, averaged: equation 3 as printed
    LOCAL = (False, True)  # position by position: HiResCAM
    POSITIVE_LOCAL = (True, True)  # LayerCAM

    def __init__(self, is_positive: bool, is_local: bool) -> None:
        self.is_positive = is_positive
        self.is_local = is_local


def signed_maps(
    activation: Activation, weightings: Collection[Weighting], *, create_graph: bool = False
) -> dict[Weighting, Tensor]:
    """Compute the signed map S_i of every latent, (B, D, h, w), for each weighting.

    There is a closed form if only a head lies above the activation. Otherwise each latent takes
    one vector-Jacobian product, one after the other. On a CPU this loop is as fast as
    `is_grads_batched`, and needs a D-th of its memory.
    """
    return shared_signed_maps([(activation, weightings)], create_graph=create_graph)[0]


def shared_signed_maps(
    wanted: Sequence[tuple[Activation, Collection[Weighting]]], *, create_graph: bool = False
) -> list[dict[Weighting, Tensor]]:
    """Compute the signed maps of several activations, which share their gradients.

    A vector-Jacobian product for a latent goes down to the first activation, and passes all others
    on its way.

    Args:
        wanted: activations from one call of `activate_layers`, and the weightings for each.
        create_graph: let gradients flow from the maps into the parameters.

    Returns:
        For each activation, maps (B, D, h, w) by weighting.
    """
    maps: list[dict[Weighting, Tensor]] = []
    rest: list[tuple[int, Activation, list[Weighting]]] = []
    with torch.set_grad_enabled(create_graph):
        for place, (activation, weightings) in enumerate(wanted):
            closed = {weighting: _closed_maps(activation, weighting) for weighting in weightings}
            maps.append({key: value for key, value in closed.items() if value is not None})
            if left := [weighting for weighting in weightings if closed[weighting] is None]:
                rest.append((place, activation, left))
    of_rest = _gradient_maps([row[1:] for row in rest], create_graph=create_graph)
    for (place, *_), drawn in zip(rest, of_rest, strict=True):
        maps[place] |= drawn
    return maps


def _closed_maps(activation: Activation, weighting: Weighting) -> Tensor | None:
    """Compute signed maps from the weights of the head; None where there is no closed form."""
    features, head = activation.features, activation.head
    if isinstance(head, PooledHead):
        # The gradient W_ik / (h w) is the same at all positions, so its mean is the local value.
        weights = head.mu_weight / (features.shape[2] * features.shape[3])
        weights = F.relu(weights) if weighting.is_positive else weights
        return torch.einsum("ik,bkhw->bihw", weights, features)
    if isinstance(head, FlatHead):
        weights = F.relu(head.mu_weight) if weighting.is_positive else head.mu_weight
        if weighting.is_local:
            return torch.einsum("ikhw,bkhw->bihw", weights, features)
        return torch.einsum("ik,bkhw->bihw", weights.mean(dim=(2, 3)), features)
    if isinstance(head, HiddenHead) and weighting is Weighting.MEAN:
        hidden = features.flatten(1) @ head.hidden_weight.flatten(1).T + head.hidden_bias
        # The average over positions comes first: 8 instead of 411 MFLOP for an image of MNIST.
        averaged = head.hidden_weight.mean(dim=(2, 3))  # (N, K)
        active = (hidden > 0).to(features.dtype)  # (B, N)
        weights = torch.einsum("in,bn,nk->bik", head.mu_weight, active, averaged)
        return torch.einsum("bik,bkhw->bihw", weights, features)
    return None


def _gradient_maps(
    wanted: Sequence[tuple[Activation, Collection[Weighting]]], *, create_graph: bool
) -> list[dict[Weighting, Tensor]]:
    if not wanted:
        return []
    features = [activation.features for activation, _ in wanted]
    totals = wanted[0][0].posterior.mu.sum(dim=0)  # (D,); images do not mix in eval mode
    maps: list[dict[Weighting, list[Tensor]]] = [
        {weighting: [] for weighting in weightings} for _, weightings in wanted
    ]
    for total in totals:
        gradients = torch.autograd.grad(
            total, features, retain_graph=True, create_graph=create_graph
        )
        with torch.set_grad_enabled(create_graph):
            for gradient, activation, of_layer in zip(gradients, features, maps, strict=True):
                for weighting, of_latents in of_layer.items():
                    of_latents.append(_weigh(gradient, activation, weighting))
    return [
        {weighting: torch.stack(of_latents, dim=1) for weighting, of_latents in of_layer.items()}
        for of_layer in maps
    ]


def _weigh(gradient: Tensor, features: Tensor, weighting: Weighting) -> Tensor:
    """Weight an activation (B, K, h, w) by a gradient (B, K, h, w): signed map (B, h, w)."""
    weights = F.relu(gradient) if weighting.is_positive else gradient
    if weighting.is_local:
        return (weights * features).sum(dim=1)
    return torch.einsum("bk,bkhw->bhw", weights.mean(dim=(2, 3)), features)


def sum_weights(
    activation: Activation,
    score: Callable[[Posterior], Tensor],
    grad_norm: GradNorm = "none",
    *,
    create_graph: bool = False,
) -> Tensor:
    """Compute weights alpha (B, K): the gradient of one score, averaged over positions.

    This takes one backward pass.

    Args:
        activation: from `activate`.
        score: function of the posterior that returns a scalar, a sum over images.
        grad_norm: divide the gradient by its root mean square over each image ("sample") or over
            the batch ("batch", the authors': the map then depends on the other images).
        create_graph: let gradients flow from the weights into the parameters.
    """
    with torch.enable_grad():
        total = score(activation.posterior)
    (gradient,) = torch.autograd.grad(
        total, activation.features, retain_graph=True, create_graph=create_graph
    )
    with torch.set_grad_enabled(create_graph):
        if grad_norm != "none":
            over = (0, 1, 2, 3) if grad_norm == "batch" else (1, 2, 3)
            gradient = gradient / (gradient.square().mean(over, keepdim=True).sqrt() + _EPSILON)
        return gradient.mean(dim=(2, 3))
