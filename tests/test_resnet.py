"""The VAE: shapes, stages, heads, sampling."""

import pytest
import torch
from torchvision.models import resnet18

from models.config import STAGES, VAEConfig
from models.resnet import ResNet18Encoder, resnet18_vae
from models.vae import Posterior

SMALL = VAEConfig(image_size=64, latent_dim=5)


@pytest.mark.parametrize("layer", STAGES)
def test_features_and_posterior_compose_to_the_encoder(layer: str) -> None:
    """Cutting the encoder at any stage and going on gives the same posterior."""
    torch.manual_seed(0)
    encoder = ResNet18Encoder(SMALL).eval()
    images = torch.rand(2, 3, 64, 64)
    whole = encoder(images)
    features = encoder.features(images, layer)
    parts = encoder.posterior(features, layer)
    torch.testing.assert_close(parts.mu, whole.mu)
    stride = 4 * 2 ** STAGES.index(layer)
    assert features.shape[2:] == (64 // stride, 64 // stride)
    assert features.min() == 0  # behind the ReLU, and no later operation has overwritten it


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_affine_head_is_the_posterior(head: str) -> None:
    """W A + b, written out, is mu and log variance."""
    torch.manual_seed(0)
    encoder = ResNet18Encoder(VAEConfig(image_size=64, latent_dim=5, head=head)).eval().double()
    torch.nn.init.normal_(encoder.logvar.weight)
    features = encoder.features(torch.rand(2, 3, 64, 64).double(), "layer4")
    affine = encoder.affine_head("layer4")
    assert affine is not None
    assert affine.is_pooled == (head == "gap")
    equation = "ik,bkhw->bi" if affine.is_pooled else "ikhw,bkhw->bi"
    scale = features[0, 0].numel() if affine.is_pooled else 1
    posterior = encoder.posterior(features, "layer4")
    mu = torch.einsum(equation, affine.mu_weight, features) / scale + affine.mu_bias
    logvar = torch.einsum(equation, affine.logvar_weight, features) / scale + affine.logvar_bias
    torch.testing.assert_close(mu, posterior.mu)
    torch.testing.assert_close(logvar, posterior.logvar)
    assert encoder.affine_head("layer3") is None


def test_decoder_gives_images_of_the_input_size() -> None:
    vae = resnet18_vae(SMALL).eval()
    rebuilt = vae.reconstruct(torch.rand(2, 3, 64, 64))
    assert rebuilt.shape == (2, 3, 64, 64)
    assert rebuilt.min() > 0
    assert rebuilt.max() < 1


def test_eval_mode_decodes_the_mean_and_train_mode_a_draw() -> None:
    torch.manual_seed(0)
    vae = resnet18_vae(SMALL)
    images = torch.rand(2, 3, 64, 64)
    vae.eval()
    torch.testing.assert_close(vae(images).logits, vae.decoder(vae.encode(images).mu))
    vae.train()
    first = vae(images, torch.Generator().manual_seed(1)).logits
    second = vae(images, torch.Generator().manual_seed(2)).logits
    assert (first - second).abs().max() > 1e-3


def test_sample_has_the_moments_of_the_posterior() -> None:
    posterior = Posterior(torch.full((100_000, 1), 3.0), torch.full((100_000, 1), 2.0).log())
    draws = posterior.sample(torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(3.0, abs=0.02)
    assert draws.var().item() == pytest.approx(2.0, abs=0.04)


def test_encoder_is_torchvisions_resnet18() -> None:
    """With its weights loaded, layer4 is that of the original network on standardised input."""
    torch.manual_seed(0)
    original = resnet18(weights=None).eval()
    encoder = ResNet18Encoder(SMALL).eval()
    encoder.load_backbone(original.state_dict())
    images = torch.rand(1, 3, 64, 64)
    hidden = (images - encoder.pixel_mean) / encoder.pixel_std
    hidden = original.maxpool(original.relu(original.bn1(original.conv1(hidden))))
    for name in STAGES:
        hidden = getattr(original, name)(hidden)
    torch.testing.assert_close(encoder.features(images, "layer4"), hidden)


@pytest.mark.parametrize(
    "settings",
    [{"image_size": 100}, {"image_size": 0}, {"latent_dim": 0}, {"beta": -1}, {"head": "x"},
     {"reconstruction": "l1"}],
)  # fmt: skip
def test_nonsense_is_refused_when_built(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        VAEConfig(**settings)
