"""VAE on a frozen EfficientNet-Lite0, of which only neck, posterior and decoder are trained."""

import torch
from torch import Tensor

from models.config import VAEConfig
from models.decoder import ConvDecoder
from models.efficientnet import CHANNELS, EfficientNetLite0
from models.stages import StagedEncoder
from models.vae import VAE


class FrozenEncoder(StagedEncoder):
    """Stages of a frozen EfficientNet-Lite0, an optional neck, and a head for the posterior."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        self.backbone = EfficientNetLite0()
        self.add_head(config, CHANNELS)

    def stem(self, images: Tensor) -> Tensor:
        """Compute the input of `stride4` from images (B, 3, H, W) in [0, 1]."""
        return self.backbone.stem_of(images)

    def run_stage(self, stage: str, below: Tensor) -> Tensor:
        """Compute one of `stride4` to `stride16` from the one below."""
        return self.backbone.run_stage(stage, below)


def frozen_vae(config: VAEConfig) -> VAE:
    """Build the VAE of `config`; the weights of its backbone are not set."""
    vae = VAE(FrozenEncoder(config), ConvDecoder(config), rebuilt_size=config.rebuilt_size)
    return vae.to(memory_format=torch.channels_last)
