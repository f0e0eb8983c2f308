"""The networks that learn one kind of normal image, by their settings."""

from models.config import OneClassConfig, VAEConfig
from models.conv import conv_vae
from models.resnet import resnet18_vae
from models.vae import VAE


def one_class_vae(config: OneClassConfig) -> VAE:
    """The VAE of `config`, freshly initialised."""
    return resnet18_vae(config) if isinstance(config, VAEConfig) else conv_vae(config)
