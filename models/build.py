"""Building of the networks that learn one kind of normal image."""

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
