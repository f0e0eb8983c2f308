"""Building of the networks that learn one kind of normal image."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.config import OneClassConfig, VAEConfig
from models.conv import conv_vae
from models.frozen import frozen_vae
from models.resnet import resnet18_vae
from models.vae import VAE


def one_class_vae(config: OneClassConfig) -> VAE:
    """Build the VAE of `config`, freshly initialised."""
    if not isinstance(config, VAEConfig):
        return conv_vae(config)
    return frozen_vae(config) if config.has_frozen_encoder else resnet18_vae(config)


def with_weights(build: Callable[[], VAE], weights: Mapping[str, Tensor]) -> VAE:
    """Build a network and give it weights.

    The shapes are compared first, without any memory, so that settings of a damaged file cannot
    ask for a network that is larger than the file.

    Args:
        build: builds the network.
        weights: by name, from a file.

    Raises:
        RuntimeError: the weights are those of another network.
    """
    with torch.device("meta"):
        expected = build().state_dict()
    for name, part in expected.items():
        found = weights.get(name)
        if found is None or found.shape != part.shape:
            raise RuntimeError(f"{name} of shape {tuple(part.shape)} expected")
    network = build()
    network.load_state_dict(weights)
    return network
