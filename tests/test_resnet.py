"""The VAE: shapes, stages, heads, sampling."""

from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet18

from models.config import STAGES, VAEConfig
from models.resnet import ResNet18Encoder, resnet18_vae
from models.vae import Posterior

SMALL = VAEConfig(image_size=64, latent_dim=5)


@pytest.mark.parametrize("neck", ["none", "fpn"])
def test_features_and_posterior_compose_to_the_encoder(neck: str) -> None:
    """Cutting the encoder at any stage and going on gives the same posterior."""
    torch.manual_seed(0)
    encoder = ResNet18Encoder(VAEConfig(image_size=64, latent_dim=5, neck=neck)).eval()
    images = torch.rand(2, 3, 64, 64)
    whole = encoder(images)
    strides = dict(zip(STAGES, (4, 8, 16, 32), strict=True)) | {"neck": 4}
    for layer in encoder.layers:
        features = encoder.features(images, layer)
        torch.testing.assert_close(encoder.posterior(features, layer).mu, whole.mu)
        assert features[-1].shape[2] == 64 // strides[layer]
        assert features[-1].min() == 0  # behind the ReLU, and nothing has overwritten it
    assert ("neck" in encoder.layers) == (neck == "fpn")


@pytest.mark.parametrize("stride", [4, 8])
def test_neck_fuses_fine_and_coarse_stages(stride: int) -> None:
    """The fused activation has its stride, and moves with every stage that it fuses."""
    torch.manual_seed(0)
    config = VAEConfig(image_size=64, neck="fpn", neck_stride=stride, neck_channels=16)
    encoder = ResNet18Encoder(config).eval()
    stages = encoder.features(torch.rand(1, 3, 64, 64), "layer4")
    fused = encoder.neck(stages)
    assert fused.shape == (1, 16, 64 // stride, 64 // stride)
    for place in range(4):
        changed = [stage + (number == place) for number, stage in enumerate(stages)]
        is_used = place >= (0 if stride == 4 else 1)
        assert torch.equal(encoder.neck(changed), fused) != is_used


def test_decoder_gives_images_of_the_input_size() -> None:
    vae = resnet18_vae(SMALL).eval()
    rebuilt = vae.reconstruct(torch.rand(2, 3, 64, 64))
    assert rebuilt.shape == (2, 3, 64, 64)
    assert rebuilt.min() > 0
    assert rebuilt.max() < 1


def test_decoder_of_half_the_side_rebuilds_means_of_four_pixels() -> None:
    vae = resnet18_vae(replace(SMALL, rebuilds_half=True)).eval()
    images = torch.rand(2, 3, 64, 64)
    assert vae.reconstruct(images).shape == (2, 3, 32, 32)
    means = images.unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(vae.targets(images), means)
    assert torch.equal(vae.targets(means), means)  # images of that size are as they are
    for size, head in ((96, "gap"), (64, "flatten")):
        with pytest.raises(ValueError, match="rebuilds_half needs head gap"):
            VAEConfig(image_size=size, head=head, rebuilds_half=True)


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
    torch.testing.assert_close(encoder.features(images, "layer4")[-1], hidden)


@pytest.mark.parametrize(
    "settings",
    [{"image_size": 100}, {"image_size": 0}, {"latent_dim": 0}, {"beta": -1}, {"head": "x"},
     {"reconstruction": "l1"}, {"neck": "x"}, {"neck_stride": 16}, {"neck_channels": 0}],
)  # fmt: skip
def test_nonsense_is_refused_when_built(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        VAEConfig(**settings)
