"""What of an encoder attention watches: the activation of a layer, and the posterior above it.

No hooks: the encoder hands out its stages by name.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads import ClosedHead, PooledHead
from models.vae import Posterior


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
