"""The autoencoders of Bergmann et al.: layers, maps, patches, and their state."""

from dataclasses import replace

import pytest
import torch

from models.autoencoder import Autoencoder, reconstruction_loss
from models.config import AutoencoderConfig, RebuildingLoss
from models.ssim import ssim_map

SIZE = 64  # pixels
WHOLE = AutoencoderConfig(image_size=SIZE, latent_dim=8)
PATCHES = replace(WHOLE, patch_size=32)
LOSSES: list[RebuildingLoss] = ["l2", "ssim"]
SETTINGS = [replace(config, loss=loss) for config in (WHOLE, PATCHES) for loss in LOSSES]


def make_network(config: AutoencoderConfig) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(config).eval()


@pytest.mark.parametrize(("side", "latent_dim"), [(128, 100), (64, 8)])
def test_layers_are_those_of_the_table(side: int, latent_dim: int) -> None:
    """The sides of the encoder are halved where the table has stride 2; the decoder mirrors it."""
    config = AutoencoderConfig(image_size=side, latent_dim=latent_dim)
    shapes: list[tuple[int, ...]] = []
    network = make_network(config)
    for layer in [*network.encoder, *network.decoder]:
        if not isinstance(layer, torch.nn.LeakyReLU):
            layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    network(torch.rand(1, 3, side, side))
    encoder = [
        (32, side // 2),
        (32, side // 4),
        (32, side // 4),
        (64, side // 8),
        (64, side // 8),
        (128, side // 16),
        (64, side // 16),
        (32, side // 16),
    ]
    expected = [*encoder, (latent_dim, 1), *encoder[::-1], (3, side)]
    assert shapes == [(channels, width, width) for channels, width in expected]


def test_activations_neither_vanish_nor_explode_before_training() -> None:
    """Otherwise all images have the same latents, and nothing is learned."""
    network = make_network(AutoencoderConfig(image_size=128))
    images = torch.rand(4, 3, 1, 1).expand(-1, -1, 128, 128)
    latents = network.encoder(images)
    assert 0.05 < latents.std(dim=0).mean() < 5
    assert 0.05 < network.decoder(torch.randn(4, 100, 1, 1)).std() < 5


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_maps_and_pictures_have_the_size_and_range_that_they_promise(
    config: AutoencoderConfig,
) -> None:
    network = make_network(config)
    images = torch.rand(2, 3, SIZE, SIZE)
    maps, expected = network.anomaly_maps(images), network.expected(images)
    assert maps.shape == (2, SIZE, SIZE)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert 0 < maps.max() <= (2 if config.loss == "ssim" else 1)
    assert expected.shape == images.shape
    assert expected.min() >= 0
    assert expected.max() <= 1
    assert not maps.requires_grad
    assert torch.equal(maps, network.anomaly_maps(images))


@pytest.mark.parametrize("loss", LOSSES)
def test_map_of_a_whole_image_is_its_difference_from_the_reconstruction(
    loss: RebuildingLoss,
) -> None:
    network = make_network(replace(WHOLE, loss=loss))
    images = torch.rand(2, 3, SIZE, SIZE)
    rebuilt = network.expected(images)
    if loss == "l2":
        expected = ((images - rebuilt) ** 2).mean(dim=1)
    else:
        expected = 1 - ssim_map(images, rebuilt)
    torch.testing.assert_close(network.anomaly_maps(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_results_do_not_depend_on_the_other_images_of_the_batch(config: AutoencoderConfig) -> None:
    network = make_network(config)
    images = torch.rand(3, 3, SIZE, SIZE)
    for compute in (network.anomaly_maps, network.expected):
        alone = torch.cat([compute(image[None]) for image in images])
        torch.testing.assert_close(compute(images), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_corner_of_a_map_is_that_of_its_only_patch(loss: RebuildingLoss) -> None:
    network = make_network(replace(PATCHES, loss=loss))
    whole = make_network(AutoencoderConfig(image_size=32, latent_dim=8, loss=loss))
    images = torch.rand(2, 3, SIZE, SIZE)
    corner = whole.anomaly_maps(images[..., :32, :32])[..., :16, :16]
    torch.testing.assert_close(network.anomaly_maps(images)[..., :16, :16], corner)


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_state_is_all_that_the_network_learned(config: AutoencoderConfig) -> None:
    network, other = make_network(config), Autoencoder(config).eval()
    images = torch.rand(1, 3, SIZE, SIZE)
    assert not torch.equal(network.anomaly_maps(images), other.anomaly_maps(images))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network.anomaly_maps(images), other.anomaly_maps(images))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_the_mean_of_the_maps(loss: RebuildingLoss) -> None:
    network = make_network(replace(WHOLE, loss=loss))
    images = torch.rand(2, 3, SIZE, SIZE)
    computed = reconstruction_loss(network(images), images, network.config)
    torch.testing.assert_close(computed, network.anomaly_maps(images).mean())
