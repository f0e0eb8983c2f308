"""The plain convolutional VAEs: the map sizes that the paper gives."""

from typing import Any

import pytest
import torch

from models.config import ConvVAEConfig, OneClassConvConfig
from models.conv import conv_vae


@pytest.mark.parametrize(
    ("size", "channels", "sides"),
    [(28, (64, 128), [14, 7]), (100, (64, 128, 256), [50, 25, 12])],
)
def test_maps_and_images_have_the_papers_sizes(
    size: int, channels: tuple[int, ...], sides: list[int]
) -> None:
    """MNIST: 14 and 7. UCSD: 50, 25, 12, and back to 100 although 12 is rounded down."""
    vae = conv_vae(ConvVAEConfig(image_size=size, channels=channels)).eval()
    images = torch.rand(2, 1, size, size)
    found = [vae.encoder.features(images, layer)[-1].shape[2] for layer in vae.encoder.layers]
    assert found == sides
    assert vae.reconstruct(images).shape == images.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 4, "channels": (8, 8, 8)}, "too small"),
        ({"image_size": 64, "channels": (8,) * 5}, "channels must have at most 4 entries"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneClassConvConfig(**settings)
