"""The frozen encoder: what is trained above it, attention, and the pass shared with memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, make_once, run_cli, train_disc
from PIL import Image
from torch import Tensor

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.training.pretrained import load_features
from models.activations import activate
from models.attention import latent_attention_maps
from models.build import one_class_vae
from models.config import Attention, VAEConfig
from models.frozen import FrozenEncoder
from models.statistics import AttentionStatistics, LatentStatistics

CONFIG = VAEConfig(
    image_size=64, encoder="efficientnet-lite0", neck="fpn", neck_stride=8, latent_dim=3,
    neck_channels=16, features="efficientnet-lite0",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    torch.manual_seed(0)
    encoder = one_class_vae(CONFIG).encoder
    assert isinstance(encoder, FrozenEncoder)
    encoder.backbone.load_state_dict(load_features().state_dict())
    return encoder.eval()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`disc` with a frozen encoder and a memory, trained once for all workers."""
    options = ("--features", "efficientnet-lite0")
    folder = make_once(
        tmp_path_factory, "frozen", lambda path: train_disc(path, *options, "--neck-stride", 8)
    )
    return Trained(folder / "mvtec", folder / "runs")


def draw_images(count: int, *, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_stages_are_those_of_the_network(encoder: FrozenEncoder) -> None:
    images = draw_images(2)
    expected = encoder.backbone(images)
    for count, name in enumerate(CONFIG.stages, start=1):
        stages = encoder.features(images, name)
        assert len(stages) == count
        assert torch.equal(stages[-1], expected[name])
        side = 64 // CONFIG.stride(name)
        assert stages[-1].shape[2:] == (side, side)
    assert encoder.features(images, "neck")[-1].shape == (2, 16, 8, 8)


@pytest.mark.parametrize("neck", ["none", "fpn"])
def test_without_a_neck_the_last_stage_is_averaged(neck: str) -> None:
    config = VAEConfig(image_size=64, encoder="efficientnet-lite0", neck=neck)  # type: ignore[arg-type]
    layers = ("stride4", "stride8", "stride16")
    assert config.layers == (layers if neck == "none" else (*layers, "neck"))
    width = one_class_vae(config).encoder.mu.in_features  # type: ignore[union-attr]
    assert width == (112 if neck == "none" else 128)


def test_flatten_is_refused() -> None:
    with pytest.raises(ValueError, match="head must be gap with a neck or a frozen encoder"):
        VAEConfig(encoder="efficientnet-lite0", head="flatten")


def test_no_gradient_reaches_the_frozen_network(encoder: FrozenEncoder) -> None:
    posterior = encoder(draw_images(2))
    posterior.mu.sum().backward()
    assert all(parameter.grad is None for parameter in encoder.backbone.parameters())
    assert encoder.neck is not None
    assert all(parameter.grad is not None for parameter in encoder.neck.parameters())
    encoder.zero_grad()


@pytest.mark.parametrize("layer", ["stride4", "stride16", "neck"])
def test_attention_is_the_gradient_through_the_frozen_network(
    encoder: FrozenEncoder, layer: str
) -> None:
    """`hires` by hand: the gradient of each latent with respect to the stage, times the stage."""
    images = draw_images(2)
    statistics = AttentionStatistics(LatentStatistics(torch.zeros(3), torch.ones(3)))
    found = latent_attention_maps(activate(encoder, images, layer), Attention.HIRES, statistics)
    stages = [stage.detach() for stage in encoder.features(images, layer)]
    stages[-1].requires_grad_()
    mu = encoder.posterior(stages, layer).mu
    for latent in range(3):
        (gradient,) = torch.autograd.grad(mu[:, latent].sum(), stages[-1], retain_graph=True)
        expected = (gradient * stages[-1]).sum(dim=1).clamp_min(0).detach()
        torch.testing.assert_close(found[:, latent].detach(), expected, rtol=1e-3, atol=1e-6)


def test_a_training_leaves_the_frozen_network_as_it_was(frozen: Trained) -> None:
    loaded = load_model(frozen.model)
    assert isinstance(loaded.network.encoder, FrozenEncoder)
    published = load_features().state_dict()
    for name, tensor in loaded.network.encoder.backbone.state_dict().items():
        assert torch.equal(tensor, published[name])
    assert loaded.record.statistics.memory is not None
    assert frozen.model.stat().st_size < 40 * 2**20


def test_memory_and_attention_share_one_pass(
    frozen: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maps are those of the parts on their own, and the encoder runs once at full size."""
    detector = Detector.load(frozen.model, map="fused")
    mapper = detector.view.mapper
    specs = [*detector.spec.parts]
    images = draw_images(2)
    alone = {spec: mapper.components(images, [spec])[spec] for spec in specs}
    sizes: list[int] = []
    backbone = type(mapper.vae.encoder.backbone)  # type: ignore[union-attr]
    stem_of = backbone.stem_of

    def counted(network: object, seen: Tensor) -> Tensor:
        sizes.append(seen.shape[-1])
        return stem_of(network, seen)  # type: ignore[arg-type, no-any-return]

    monkeypatch.setattr(backbone, "stem_of", counted)
    together = mapper.components(images, [detector.spec])
    assert sizes.count(64) == 1
    assert set(sizes) <= {64, 32}
    for spec in specs:
        torch.testing.assert_close(together[spec], alone[spec], rtol=1e-4, atol=1e-5)


def test_a_stage_can_be_the_target_of_attention(frozen: Trained, tmp_path: Path) -> None:
    image = frozen.data / "disc/test/hole/000.png"
    outcome = run_cli(
        "localize", frozen.model, image, "--output", tmp_path / "out", "--attention", "gradcam",
        "--target-layer", "stride8",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "out/maps/000.tiff").is_file()


@pytest.mark.parametrize("encoder_name", ["resnet18", "efficientnet-lite0"])
def test_sides_that_are_multiples_of_32_are_taken(mvtec: Path, encoder_name: str) -> None:
    """96 is no multiple of 64, so neither half the side nor a decoder of half the side fits."""
    outcome = run_cli(
        "train", "--data", mvtec, "--category", "disc", "--output", mvtec.parent / "runs",
        "--encoder", encoder_name, "--image-size", 96, "--epochs", 1, "--latent-dim", 2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    detector = Detector.load(mvtec.parent / "runs/disc")
    image = mvtec / "disc/test/hole/000.png"
    assert detector.predict(image).network_map.shape == (96, 96)


def test_grey_deep_small_and_wide_images_have_maps(frozen: Trained, tmp_path: Path) -> None:
    """16-bit grey is read as three equal channels; its map is that of the same 8-bit image."""
    detector = Detector.load(frozen.model)
    grey = np.asarray(Image.open(frozen.data / "disc/test/hole/000.png").convert("L"))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    shallow, deep = (detector.predict(tmp_path / f"{name}.png") for name in ("grey", "deep"))
    assert (shallow.image[..., 0] == shallow.image[..., 2]).all()
    np.testing.assert_allclose(deep.anomaly_map, shallow.anomaly_map, atol=1e-4)
    for shape in ((7, 9), (20, 600)):
        prediction = detector.predict(np.resize(grey, shape))
        assert prediction.anomaly_map.shape == shape
        assert np.isfinite(prediction.anomaly_map).all()
        assert prediction.nearest is not None


def test_weights_of_resnet18_are_refused(frozen: Trained, tmp_path: Path) -> None:
    outcome = run_cli(
        "train", "--data", frozen.data, "--category", "disc", "--output", tmp_path,
        "--encoder", "efficientnet-lite0", "--weights", "imagenet",
    )  # fmt: skip
    assert outcome.code == 2
    assert "--weights are those of --encoder resnet18" in outcome.stderr


def test_given_weights_stay_as_they_are_by_default() -> None:
    given = TrainConfig.resolve(weights="resnet18.pth")
    assert given.freeze == "layer4"
    assert given.model.encoder == "resnet18"  # type: ignore[union-attr]
    assert TrainConfig.resolve(weights="resnet18.pth", freeze="none").freeze == "none"
    assert TrainConfig.resolve().freeze == "none"
