"""Gradients of a posterior in an activation, at the lowest cost that is still exact.

Where only a head lies above the activation, they are read off its weights; elsewhere they are
vector-Jacobian products. No hooks: the encoder hands out its stages by name.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import GradNorm
from models.heads import ClosedHead, FlatHead, HiddenHead, PooledHead
from models.vae import Posterior

_EPSILON = 1e-5  # of the authors' gradient normalisation


class Encoder(Protocol):
    """What attention asks of an encoder: its stages by name, and the rest above each."""

    training: bool
    layers: tuple[str, ...]  # target layers, the last one last
    mu: nn.Linear  # the head of the posterior mean

    def features(self, images: Tensor, layer: str, /) -> list[Tensor]:
        """Activations up to `layer`, the target last."""

    def ascend(self, features: list[Tensor], layer: str, /) -> list[Tensor]:
        """What `features` gives of `layer`, from what it gave of the layer below."""

    def posterior(self, features: list[Tensor], layer: str, /) -> Posterior:
        """The part of the encoder above `layer`."""

    def closed_head(self, layer: str, /) -> ClosedHead | None:
        """The head, where nothing else lies above `layer`."""


class Weighting(Enum):
    """How the gradient of a latent weighs the channels of the activation."""

    MEAN = (False, False)  # averaged over positions: Grad-CAM
    POSITIVE_MEAN = (True, False)  # only what raises the latent, averaged: equation 3 as printed
    LOCAL = (False, True)  # position by position: HiResCAM
    POSITIVE_LOCAL = (True, True)  # LayerCAM

    def __init__(self, is_positive: bool, is_local: bool) -> None:
        self.is_positive = is_positive
        self.is_local = is_local


class Activation(NamedTuple):
    """The target activation of a batch, with the posterior as a function of it."""

    features: Tensor  # A (B, K, h, w)
    posterior: Posterior
    head: ClosedHead | None
    half: "Activation | None" = None  # of the same images at half their side, if asked for


def activate(
    encoder: Encoder,
    images: Tensor,
    layer: str,
    *,
    create_graph: bool = False,
    with_half: bool = False,
) -> Activation:
    """Run the encoder once, and stop at the target layer to watch it.

    Args:
        encoder: in eval mode.
        images: (B, C, H, W) in [0, 1].
        layer: target layer, one of `encoder.layers`.
        create_graph: let gradients flow from the maps into the parameters.
        with_half: also run it on the images at half their side, at a quarter of the cost.

    Raises:
        ValueError: the encoder is in train mode.
    """
    found = activate_layers(
        encoder, images, [layer], create_graph=create_graph, with_half=with_half
    )
    return found[layer]


def activate_layers(
    encoder: Encoder,
    images: Tensor,
    layers: Collection[str],
    *,
    create_graph: bool = False,
    with_half: bool = False,
) -> dict[str, Activation]:
    """The activations of several layers, with one posterior as a function of each of them.

    The same as `activate` gives of one layer after the other, but `shared_signed_maps` then has the
    gradients in all of them for the cost of those in the first.

    Args:
        encoder: in eval mode.
        images: (B, C, H, W) in [0, 1].
        layers: target layers, one at least.
        create_graph: let gradients flow from the maps into the parameters.
        with_half: also run it on the images at half their side, for the last of the layers.

    Raises:
        ValueError: the encoder is in train mode.
    """
    if encoder.training:
        raise ValueError("attention needs the encoder in eval mode: train mode mixes images")
    first, *rest = encoder.layers[slice(*_span(encoder.layers, layers))]
    with torch.set_grad_enabled(create_graph):
        stages = list(encoder.features(images, first))
    if not create_graph:
        stages[-1] = stages[-1].detach().requires_grad_()
    features, last = {first: stages[-1]}, first
    with torch.enable_grad():
        for last in rest:
            stages = encoder.ascend(stages, last)
            features[last] = stages[-1]
        posterior = encoder.posterior(stages, last)
        found = {
            layer: Activation(features[layer], posterior, encoder.closed_head(layer))
            for layer in features
            if layer in layers
        }
    if with_half:
        half = activate(encoder, halve(images), last, create_graph=create_graph)
        found[last] = found[last]._replace(half=half)
    return found


def _span(ordered: Sequence[str], chosen: Collection[str]) -> tuple[int, int]:
    """Where the chosen ones begin and end among the ordered ones."""
    places = [ordered.index(name) for name in chosen]
    return min(places), max(places) + 1


def halve(images: Tensor) -> Tensor:
    """Images (B, C, H, W) at half their side, (B, C, H/2, W/2): means of four pixels."""
    return F.avg_pool2d(images, 2)


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


def local_latents(activation: Activation) -> Tensor:
    """z_i(p) = sum_k W_ik A_k(p) + b_i, (B, D, h, w): contributions whose mean over p is mu_i.

    Raises:
        ValueError: the head is not the global average of the activation.
    """
    head = activation.head
    if not isinstance(head, PooledHead):
        raise ValueError(  # noqa: TRY004 - the layer is wrong, not the type
            "local latents need a head on the global average of the activation"
        )
    return head.local_latents(activation.features)
