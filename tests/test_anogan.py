"""AnoGAN: shapes of the networks, and the search for the latent of an image."""

import pytest
import torch
from torch import Tensor

from models.anogan import AnoGAN, hidden_channels
from models.config import AnoGANConfig

CONFIG = AnoGANConfig(image_size=32, latent_dim=8, width=4, search_steps=20)


def build(config: AnoGANConfig = CONFIG) -> AnoGAN:
    """Build a network whose batch norm has seen a few batches, in eval mode."""
    torch.manual_seed(0)
    network = AnoGAN(config)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            network.discriminator(network.generator(network.draw_latents(16, noise)))
    return network.eval()


def draw_images(count: int, side: int = 32) -> Tensor:
    """Draw smooth images (count, 3, side, side) in [0, 1], each another one."""
    noise = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=noise)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        (32, [16, 8, 4]),
        (64, [32, 16, 8, 4]),
        (128, [64, 32, 16, 8, 4]),
        (256, [64, 64, 32, 16, 8, 4]),  # 16 times the width is the most
    ],
)
def test_channels_double_towards_the_coarse_grid(size: int, channels: list[int]) -> None:
    config = AnoGANConfig(image_size=size, width=4)
    assert hidden_channels(config) == channels
    network = AnoGAN(config).eval()
    drawn = network.sample(2, seed=0)
    assert drawn.shape == (2, 3, size, size)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert network.discriminator.features(drawn).shape == (2, channels[0], 4, 4)
    assert network.discriminator(drawn).shape == (2,)


def test_each_seed_has_its_own_samples() -> None:
    network = build()
    assert torch.equal(network.sample(3, seed=1), network.sample(3, seed=1))
    assert not torch.equal(network.sample(3, seed=1), network.sample(3, seed=2))


def test_search_lowers_the_loss_of_every_image() -> None:
    network, images = build(), draw_images(6)
    search = network.search(images)
    assert search.latents.shape == (6, 8)
    assert (search.best < search.first).all()


def test_losses_of_the_search_are_those_of_the_paper() -> None:
    """Compute the loss anew at the latents that were found."""
    network, images = build(), draw_images(3)
    search = network.search(images)
    with torch.no_grad():
        drawn = network.generator(search.latents)
        features = network.discriminator.features
        for number in range(3):
            residual = (images[number] - drawn[number]).abs().mean()
            one, other = features(images[[number]]), features(drawn[[number]])
            loss = 0.9 * residual + 0.1 * (one - other).abs().mean()
            torch.testing.assert_close(search.best[number], loss)


def test_search_begins_at_the_best_of_the_drawn_latents() -> None:
    """Search for an image that one of these latents draws exactly."""
    network = build()
    start = network.draw_latents(40, torch.Generator().manual_seed(0))[[39]]
    with torch.no_grad():
        search = network.search(network.generator(start))
    torch.testing.assert_close(search.first, torch.zeros(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(search.latents, start, atol=1e-6, rtol=0)


def test_maps_are_repeatable_and_do_not_depend_on_the_batch() -> None:
    """In double precision: rounding grows in the search, and depends on the size of a batch."""
    network, images = build().double(), draw_images(4).double()
    maps = network.anomaly_maps(images)
    assert maps.shape == (4, 32, 32)
    assert maps.isfinite().all()
    assert torch.equal(maps, network.anomaly_maps(images))
    torch.testing.assert_close(maps[[2]], network.anomaly_maps(images[[2]]))


def test_maps_are_the_differences_from_the_expected_images() -> None:
    network, images = build(), draw_images(2)
    with torch.no_grad():  # the search needs gradients all the same
        maps, expected = network.anomaly_maps(images), network.expected(images)
    assert not maps.requires_grad
    assert 0 <= expected.min() <= expected.max() <= 1
    torch.testing.assert_close(maps, (images - expected).abs().mean(dim=1))


def test_search_changes_nothing_in_the_networks() -> None:
    network = build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.anomaly_maps(draw_images(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_textures_are_compared_in_patches() -> None:
    """A corner that only one of the four patches covers has the map of this patch alone."""
    config = AnoGANConfig(image_size=64, patch_size=32, latent_dim=8, width=4, search_steps=5)
    network, images = build(config).double(), draw_images(2, 64).double()
    maps, expected = network.compare(images)
    assert maps.shape == (2, 64, 64)
    assert expected.shape == (2, 3, 64, 64)
    corner = network.anomaly_maps(images[..., 32:, 32:])
    torch.testing.assert_close(maps[:, 48:, 48:], corner[:, 16:, 16:])


def test_weights_alone_give_the_same_maps() -> None:
    network, other = build(), AnoGAN(CONFIG).eval()
    images = draw_images(2)
    other.load_state_dict(network.state_dict())
    assert torch.equal(network.anomaly_maps(images), other.anomaly_maps(images))
