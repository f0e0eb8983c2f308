"""Attention maps against autograd, in float64, over random networks."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention import (
    LatentMaps,
    LatentStatistics,
    anomaly_attention_map,
    latent_attention_maps,
    latent_deviation,
    latent_maps,
)
from models.config import STAGES, Attention, Layer, VAEConfig
from models.resnet import ResNet18Encoder
from models.vae import Posterior


def make_encoder(
    seed: int, *, head: str = "gap", size: int = 64, latents: int = 3
) -> ResNet18Encoder:
    """A random encoder in float64 and eval mode, its batch norms filled with random statistics."""
    torch.manual_seed(seed)
    encoder = ResNet18Encoder(VAEConfig(image_size=size, latent_dim=latents, head=head)).double()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(encoder.logvar.weight, std=0.1)
    return encoder.eval()


def naive_signed_map(
    encoder: ResNet18Encoder, image: torch.Tensor, layer: Layer, latent: int
) -> torch.Tensor:
    """Grad-CAM of one latent of one image, written as plainly as it can be."""
    features = encoder.features(image[None], layer).detach().requires_grad_()
    encoder.posterior(features, layer).mu[0, latent].backward()
    weights = features.grad[0].mean(dim=(1, 2))
    return (weights[:, None, None] * features[0].detach()).sum(dim=0)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    layer=st.sampled_from(STAGES),
    head=st.sampled_from(["gap", "flatten"]),
    size=st.sampled_from([32, 64, 96]),
)
def test_signed_maps_equal_one_backward_per_latent(
    seed: int, layer: Layer, head: str, size: int
) -> None:
    """Closed form and vector-Jacobian products give the naive loop's map to 1e-10."""
    encoder = make_encoder(seed, head=head, size=size)
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    maps = latent_maps(encoder, images, layer)
    for image, maps_of_image in zip(images, maps.signed, strict=True):
        for latent, ours in enumerate(maps_of_image):
            naive = naive_signed_map(encoder, image, layer, latent)
            error = (ours - naive).norm() / naive.norm().clamp_min(1e-300)
            assert error < 1e-10
    torch.testing.assert_close(maps.posterior.mu, encoder(images).mu)


@pytest.mark.parametrize("layer", STAGES)
@pytest.mark.parametrize("attention", Attention)
def test_map_of_a_batch_is_the_map_of_each_image(layer: Layer, attention: Attention) -> None:
    encoder = make_encoder(1)
    statistics = LatentStatistics(torch.zeros(3).double(), torch.ones(3).double())
    images = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    together = anomaly_attention_map(latent_maps(encoder, images, layer), attention, statistics)
    for image, from_batch in zip(images, together, strict=True):
        maps = latent_maps(encoder, image[None], layer)
        alone = anomaly_attention_map(maps, attention, statistics)[0]
        torch.testing.assert_close(from_batch, alone, atol=1e-6, rtol=1e-6)
        assert alone.max() > 0


def test_train_mode_is_refused() -> None:
    """Batch norm in train mode would mix the images of a batch."""
    with pytest.raises(ValueError, match="eval mode"):
        latent_maps(make_encoder(0).train(), torch.rand(2, 3, 64, 64).double(), "layer4")


def test_deviation_is_the_slope_of_the_squared_distance() -> None:
    """d_i = d/dmu of (mu - m)^2 / (2 (v + sigma^2)): (3 - 1) / (3 + 1) = 0.5."""
    posterior = Posterior(torch.tensor([[3.0]]), torch.tensor([[0.0]]))
    statistics = LatentStatistics(torch.tensor([1.0]), torch.tensor([3.0]))
    torch.testing.assert_close(latent_deviation(posterior, statistics), torch.tensor([[0.5]]))


def test_diff_mahal_is_the_gradient_attention_of_the_distance() -> None:
    """Grad-CAM of s_i = (mu_i - m_i)^2 / (2 (v_i + sigma_i^2)), denominator held fixed."""
    encoder = make_encoder(3)
    generator = torch.Generator().manual_seed(0)
    statistics = LatentStatistics(
        torch.randn(3, generator=generator).double(),
        torch.rand(3, generator=generator).double() + 0.1,
    )
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    features = encoder.features(image, "layer3").detach().requires_grad_()
    posterior = encoder.posterior(features, "layer3")
    variance = (statistics.variance + posterior.logvar.exp()).detach()
    distance = (posterior.mu - statistics.mean).square() / (2 * variance)
    naive = []
    for latent in range(3):
        (gradient,) = torch.autograd.grad(distance[0, latent], features, retain_graph=True)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        naive.append(F.relu((weights * features).sum(dim=1)))
    maps = latent_maps(encoder, image, "layer3")
    ours = latent_attention_maps(maps, Attention.DIFF_MAHAL, statistics)
    torch.testing.assert_close(ours, torch.stack(naive, dim=1).detach(), atol=0, rtol=1e-10)


def test_a_normal_latent_shows_nothing_in_diff_mahal() -> None:
    """An image whose latents lie on the mean of the normal ones has an empty map."""
    maps = LatentMaps(
        torch.ones(1, 2, 4, 4), Posterior(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    )
    statistics = LatentStatistics(torch.tensor([1.0, 2.0]), torch.ones(2))
    assert anomaly_attention_map(maps, Attention.DIFF_MAHAL, statistics).abs().max() == 0
    assert anomaly_attention_map(maps, Attention.GRADCAM, statistics).max() == 1


def test_attention_leaves_the_model_as_it_was() -> None:
    """No gradient is left on a parameter, and the weights do not move."""
    encoder = make_encoder(5)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    latent_maps(encoder, torch.rand(2, 3, 64, 64, dtype=torch.float64), "layer2")
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
