"""Building of the networks that learn one kind of normal image."""

from models.config import OneClassConfig, VAEConfig
from models.conv import conv_vae
from models.resnet import resnet18_vae
from models.vae import VAE


def one_class_vae(config: OneClassConfig) -> VAE:
    """Build the VAE of `config`, freshly initialised."""
    return resnet18_vae(config) if isinstance(config, VAEConfig) else conv_vae(config)
