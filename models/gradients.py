"""Gradients of a posterior in an activation, at the lowest cost that is still exact.

Where only a head lies above the activation, they are read off its weights; elsewhere they are
vector-Jacobian products.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from models.activations import Activation
from models.config import GradNorm
from models.heads import FlatHead, HiddenHead, PooledHead
from models.vae import Posterior

_EPSILON = 1e-5  # of the authors' gradient normalisation


class Weighting(Enum):
    """How the gradient of a latent weighs the channels of the activation."""

    MEAN = (False, False)  # averaged over positions: Grad-CAM
    POSITIVE_MEAN = (True, False)  # only what raises the latent, averaged: equation 3 as printed
    LOCAL = (False, True)  # position by position: HiResCAM
    POSITIVE_LOCAL = (True, True)  # LayerCAM

    def __init__(self, is_positive: bool, is_local: bool) -> None:
        self.is_positive = is_positive
        self.is_local = is_local


def signed_maps(
    activation: Activation, weightings: Collection[Weighting], *, create_graph: bool = False
) -> dict[Weighting, Tensor]:
    """Signed map S_i of every latent, (B, D, h, w), for each weighting, by the cheapest exact way.

    In closed form where only a head lies above the activation; elsewhere one vector-Jacobian
    product for each latent, of which one at a time is alive. On a CPU a loop of them is as fast as
    `is_grads_batched`, and needs a D-th of its memory.
    """
    return shared_signed_maps([(activation, weightings)], create_graph=create_graph)[0]


def shared_signed_maps(
    wanted: Sequence[tuple[Activation, Collection[Weighting]]], *, create_graph: bool = False
) -> list[dict[Weighting, Tensor]]:
    """The same for each of the activations of one call of `activate_layers`.

    A product for a latent goes down to the first of them and passes the others on its way.
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
    """Signed maps read off the weights of the head, or None where that is not possible."""
    features, head = activation.features, activation.head
    if isinstance(head, PooledHead):
        # The gradient W_ik / hw is the same at all positions: mean and local are one.
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
        # Averaged over positions first: 8 instead of 411 MFLOP for an image of MNIST.
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
    """Gradient (B, K, h, w) and activation (B, K, h, w) -> signed map (B, h, w)."""
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
    """Weights alpha (B, K): the gradient of one score, averaged over positions. One backward pass.

    Args:
        activation: of `activate`.
        score: posterior -> scalar, a sum over images.
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
