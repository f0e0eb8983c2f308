"""Building of the networks that learn one kind of normal image."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.anogan import AnoGAN
from models.autoencoder import Autoencoder
from models.config import (
    AnoGANConfig,
    AutoencoderConfig,
    DictionaryConfig,
    OneClassConfig,
    OneClassConvConfig,
    OneClassVAEConfig,
    VAEConfig,
)
from models.conv import conv_vae
from models.dictionary import FeatureDictionary
from models.frozen import frozen_vae
from models.resnet import resnet18_vae
from models.vae import VAE

Network = TypeVar("Network", bound=nn.Module)


def one_class_vae(config: OneClassVAEConfig) -> VAE:
    """Build the VAE of `config`, freshly initialised."""
    if not isinstance(config, VAEConfig):
        return conv_vae(config)
    return frozen_vae(config) if config.has_frozen_encoder else resnet18_vae(config)


_BUILD: Mapping[type, Callable[[Any], nn.Module]] = {
    VAEConfig: one_class_vae,
    OneClassConvConfig: one_class_vae,
    AutoencoderConfig: Autoencoder,
    AnoGANConfig: AnoGAN,
    DictionaryConfig: FeatureDictionary,
}


def build_network(config: OneClassConfig) -> nn.Module:
    """Build the network of `config`, freshly initialised."""
    return _BUILD[type(config)](config)


def with_weights(build: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
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
