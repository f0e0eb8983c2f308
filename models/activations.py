"""Activations of the encoder that attention reads, and the posterior as a function of them.

There are no hooks: the encoder returns its stages by name.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from models.vae import ClosedHead, PooledHead, Posterior


class Encoder(Protocol):
    """Interface of an encoder that attention needs: its stages by name, and the posterior."""

    training: bool
    layers: tuple[str, ...]  # target layers, from the first to the last
    mu: nn.Linear  # the head of the posterior mean

    def features(self, images: Tensor, layer: str, /) -> list[Tensor]:
        """Compute the activations up to `layer`; the last item is that of `layer`."""

    def ascend(self, features: list[Tensor], layer: str, /) -> list[Tensor]:
        """Compute the `features` of `layer` from those of the layer below."""

    def posterior(self, features: list[Tensor], layer: str, /) -> Posterior:
        """Compute the posterior from the `features` of `layer`."""

    def closed_head(self, layer: str, /) -> ClosedHead | None:
        """Return the head if nothing else lies above `layer`, else None."""


class Activation(NamedTuple):
    """Target activation of a batch, with the posterior as a function of it."""

    features: Tensor  # A (B, K, h, w)
    posterior: Posterior
    head: ClosedHead | None


def activate(
    encoder: Encoder,
    images: Tensor,
    layer: str,
    *,
    create_graph: bool = False,
    below: list[Tensor] | None = None,
) -> Activation:
    """Run the encoder once, and keep the activation of the target layer.

    Args:
        encoder: in eval mode.
        images: (B, C, H, W) in [0, 1].
        layer: target layer, one of `encoder.layers`.
        create_graph: let gradients flow from the maps into the parameters.
        below: `features` of the layer below, if they are known; the encoder goes on from there.

    Raises:
        ValueError: the encoder is in train mode.
    """
    found = activate_layers(encoder, images, [layer], create_graph=create_graph, below=below)
    return found[layer]


def activate_layers(
    encoder: Encoder,
    images: Tensor,
    layers: Collection[str],
    *,
    create_graph: bool = False,
    below: list[Tensor] | None = None,
) -> dict[str, Activation]:
    """Run the encoder once, and keep the activations of several target layers.

    They share one posterior. `shared_signed_maps` then computes the gradients with respect to all
    of them at the cost of those with respect to the first.

    Args:
        encoder: in eval mode.
        images: (B, C, H, W) in [0, 1].
        layers: target layers, one at least.
        create_graph: let gradients flow from the maps into the parameters.
        below: `features` of the layer below the first target, if they are known.

    Returns:
        Activations by layer.

    Raises:
        ValueError: the encoder is in train mode.
    """
    if encoder.training:
        raise ValueError("attention needs the encoder in eval mode: train mode mixes images")
    first, *rest = encoder.layers[slice(*_span(encoder.layers, layers))]
    with torch.set_grad_enabled(create_graph):
        known = encoder.features(images, first) if below is None else encoder.ascend(below, first)
        stages = list(known)
    if not create_graph:
        stages[-1] = stages[-1].detach().requires_grad_()
    features, last = {first: stages[-1]}, first
    # While it is exported there are no gradients, and a change of their mode cannot be saved.
    with torch.set_grad_enabled(not torch.compiler.is_compiling()):
        for last in rest:
            stages = encoder.ascend(stages, last)
            features[last] = stages[-1]
        posterior = encoder.posterior(stages, last)
        return {
            layer: Activation(features[layer], posterior, encoder.closed_head(layer))
            for layer in features
            if layer in layers
        }


def _span(ordered: Sequence[str], chosen: Collection[str]) -> tuple[int, int]:
    """Find the start and stop of the shortest slice of `ordered` that holds all of `chosen`."""
    places = [ordered.index(name) for name in chosen]
    return min(places), max(places) + 1


def local_latents(activation: Activation) -> Tensor:
    """Compute the local latents z_i(p) = sum_k W_ik A_k(p) + b_i, shape (B, D, h, w).

    They are the contributions of the positions p to mu_i, which is their mean.

    Raises:
        ValueError: the head is not the global average of the activation.
    """
    head = activation.head
    if not isinstance(head, PooledHead):
        raise ValueError(  # noqa: TRY004 - the layer is wrong, not the type
            "local latents need a head on the global average of the activation"
        )
    return head.local_latents(activation.features)
