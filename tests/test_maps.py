"""Maps by name, the statistics behind them, and their calibration."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Trained

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.config.names import MODEL_FILE, MapSource
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.detector.calibration import MapCalibration, calibrate_map
from anomaly_cli.detector.checkpoint import (
    CALIBRATIONS_FILE,
    NotCalibratedError,
    load_calibrations,
    load_model,
    save_model,
)
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.maps import MapSpec, candidate_maps, map_specs, parse_map_spec
from anomaly_cli.detector.masks import MarkedMap, fit_outline
from anomaly_cli.detector.normal.latents import fit_latents
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.training import calibrate
from anomaly_cli.training.calibrate import calibrate_maps, open_detector
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.painted import PaintedImage
from anomaly_cli.training.split import NormalSplit, split_normal
from models.activations import activate, local_latents
from models.attention import anomaly_maps_of_layers, latent_attention_maps
from models.config import Attention, VAEConfig
from models.resnet import resnet18_vae

CPU = torch.device("cpu")


def held_out_set(images: NormalImages, painted: Sequence[PaintedImage] = ()) -> TrainingSet:
    """Make a training set of which only the held-out images matter."""
    return TrainingSet(NormalSplit([], images.paths, 1), images, images, None, list(painted))


@pytest.mark.parametrize(
    ("settings", "count", "exact"),
    [({}, 4 * 7 + 3 + 4 + 1, "layer4"), ({"head": "flatten"}, 4 * 7 + 4, None),
     ({"neck": "fpn"}, 5 * 7 + 3 + 4 + 1, "neck"),
     ({"features": "efficientnet-lite0"}, 4 * 7 + 3 + 5 + 1, "layer4"),
     ({"encoder": "efficientnet-lite0", "neck": "fpn"}, 4 * 7 + 3 + 4 + 1, "neck"),
     ({"neck": "fpn", "latent_dim": 65}, 5 * 7 + 2 + 4 + 1, "neck")],
)  # fmt: skip
def test_a_shape_has_its_maps_and_their_names_come_back(
    settings: dict[str, Any], count: int, exact: str | None
) -> None:
    """Seven definitions at a layer; the exact and the fused at a pooled one; baselines.

    65 x 65 covariances at 64 x 64 positions are too many numbers to keep.
    """
    config = VAEConfig(**settings)
    specs = map_specs(config)
    assert len(specs) == len({str(spec) for spec in specs}) == count
    for spec in specs:
        assert parse_map_spec(str(spec), config) == spec
    assert (MapSpec("exact", exact) in specs) == (exact is not None)


@pytest.mark.parametrize("text", ["gradcam", "gradcam@layer5", "exact@layer1", "diff@layer4", ""])
def test_an_unknown_map_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match=r"this model has .*diff_mahal@layer4.*reconstruction"):
        parse_map_spec(text, VAEConfig())


def test_statistics_do_not_depend_on_batches_and_match_their_definition() -> None:
    """Law of total variance for the latents; plain mean and variance for the local ones."""
    torch.manual_seed(0)
    vae = resnet18_vae(VAEConfig(image_size=64, latent_dim=3)).eval()
    torch.nn.init.normal_(vae.encoder.logvar.weight)
    images = torch.rand(7, 3, 64, 64)
    one, many = (fit_latents(vae.encoder, images.split(size)) for size in (7, 2))
    moments = zip((*one.latent, *one.local[:-1]), (*many.latent, *many.local[:-1]), strict=True)
    for a, b in moments:
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    whitened = [statistics.local.whitening for statistics in (one, many)]
    torch.testing.assert_close(*whitened, atol=1e-4, rtol=1e-3)
    activation = activate(vae.encoder, images, "layer4")
    mu, logvar = (part.detach().double() for part in activation.posterior)
    variance = logvar.exp().mean(0) + mu.var(0, correction=0)
    torch.testing.assert_close(one.latent.variance, variance, atol=1e-6, rtol=1e-5)
    local = local_latents(activation).detach()
    torch.testing.assert_close(one.local.mean, local.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.local.variance, local.var(0, correction=0), atol=1e-5, rtol=1e-3)
    flat = local.transpose(0, 1).flatten(1)
    torch.testing.assert_close(one.local.pooled_mean, flat.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        one.local.pooled_variance, flat.var(1, correction=0), atol=1e-5, rtol=1e-3
    )


def test_whitening_gives_the_mahalanobis_distance_of_shrunk_covariances() -> None:
    """Each covariance mixed with the mean over positions, which counts as D + 1 images."""
    torch.manual_seed(0)
    vae = resnet18_vae(VAEConfig(image_size=64, latent_dim=3, neck="fpn")).eval()
    images = torch.rand(9, 3, 64, 64)
    statistics = fit_latents(vae.encoder, images.split(4))
    activation = activate(vae.encoder, images, "neck")
    z = local_latents(activation).detach().double().permute(2, 3, 0, 1)  # (h, w, B, D)
    centred = z - z.mean(2, keepdim=True)
    own = centred.mT @ centred / 9
    mixed = (9 * own + 4 * own.mean((0, 1))) / 13
    distance = torch.einsum("hwbi,hwij,hwbj->bhw", centred, mixed.inverse(), centred) / 3
    maps = latent_attention_maps(activation, Attention.EXACT_COVARIANCE, statistics)
    torch.testing.assert_close(maps.detach().double().mean(1), distance, atol=1e-3, rtol=1e-3)


def test_whitening_of_a_latent_that_never_moves_is_finite() -> None:
    torch.manual_seed(0)
    vae = resnet18_vae(VAEConfig(image_size=64, latent_dim=3, neck="fpn")).eval()
    with torch.no_grad():
        vae.encoder.mu.weight[1] = 0
        vae.encoder.mu.weight[2] = vae.encoder.mu.weight[0]  # and of two that are the same
    statistics = fit_latents(vae.encoder, torch.rand(2, 3, 64, 64).split(1))
    assert statistics.local is not None
    assert statistics.local.whitening is not None
    assert statistics.local.whitening.isfinite().all()


def test_maps_are_those_of_the_definitions(trained: Trained) -> None:
    """They equal `models.attention`, and |x - x^| averaged over channels."""
    loaded = load_model(trained.model)
    config = loaded.record.model
    mapper = VAEMapper(loaded.network, loaded.record.statistics, 64, CPU)
    images = torch.rand(2, 3, 64, 64)
    computed = mapper(images, [spec for spec in map_specs(config) if not spec.is_fused])
    for spec, maps in computed.items():
        assert maps.shape == (2, 64, 64), spec
        assert maps.dtype == np.float32
        if spec.layer:
            attention = Attention(spec.source)
            activation = activate(mapper.encoder, images, spec.layer)
            statistics = mapper.statistics.attention
            (direct,) = anomaly_maps_of_layers([(activation, [attention])], statistics, (64, 64))
            torch.testing.assert_close(torch.from_numpy(maps), direct[attention].detach())
    rebuilt = torch.sigmoid(loaded.network.decoder(loaded.network.encoder(images).mu))
    residual = F.l1_loss(rebuilt, images, reduction="none").mean(1).detach()
    torch.testing.assert_close(torch.from_numpy(computed[MapSpec("reconstruction")]), residual)


def test_calibration_holds_the_maxima_of_held_out_maps(trained: Trained) -> None:
    loaded = load_model(trained.model)
    record = loaded.record
    split = split_normal(training_images(trained.data, "disc"), held_out=0.3, seed=1)
    images = NormalImages(split.held_out, 64)
    mapper = VAEMapper(loaded.network, record.statistics, 64, CPU, settings=record.settings)
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), bool)
    mask[20:30, 20:30] = True
    normal, noise = images.plain(0), rng.integers(0, 255, (64, 64, 3), np.uint8)
    painted = [
        PaintedImage(normal, np.where(mask[..., None], noise, normal), mask, "hole"),
        PaintedImage(normal, normal, np.zeros_like(mask)),
    ]
    specs = map_specs(record.model)
    training = held_out_set(images, painted)
    calibrations = calibrate_maps(mapper, training, specs, record.model, batch_size=2)
    assert set(calibrations) == set(map(str, specs))
    spec = MapSpec("gradcam", "layer3")
    maps = np.concatenate([mapper(batch, [spec])[spec] for batch in images.batches(1)])
    np.testing.assert_allclose(
        calibrations[str(spec)].raw.maxima, np.sort(maps.max(axis=(1, 2))), rtol=1e-5
    )
    spec = MapSpec("reconstruction")
    (of_defect,) = mapper(to_tensor(painted[0].painted[None]), [spec])[spec]
    raw = calibrations[str(spec)].raw
    expected = fit_outline([MarkedMap(of_defect, mask)], lowest=raw.exceeded_by(0.01))
    assert raw.outline == pytest.approx(expected, rel=1e-5)
    for name, calibration in calibrations.items():
        is_cheap = "@" not in name or name.endswith("@layer4")
        assert np.isfinite(calibration.raw.outline) == is_cheap, name
    plain = calibrate_maps(mapper, held_out_set(images), [spec], record.model, batch_size=2)
    assert list(plain) == [str(spec)]
    assert np.isnan(plain[str(spec)].raw.outline)
    np.testing.assert_array_equal(plain[str(spec)].raw.maxima, raw.maxima)


def test_a_model_file_holds_the_calibrations_of_its_map_and_parts(
    trained: Trained, guided: Trained
) -> None:
    for model in (trained.model, guided.model):
        record = load_model(model).record
        spec = parse_map_spec(record.default_map, record.model)
        assert set(record.calibrations) == {str(each) for each in (spec, *spec.parts)}


def test_a_map_is_calibrated_when_it_is_first_asked_for(guided: Trained, tmp_path: Path) -> None:
    """The calibration is kept beside the model file, which stays as it is."""
    run = shutil.copytree(guided.model.parent, tmp_path / "disc")
    (run / CALIBRATIONS_FILE).unlink(missing_ok=True)
    content = (run / MODEL_FILE).read_bytes()
    for config in (
        MapConfig(source="ssim"),
        MapConfig(source="attention", attention=Attention.GRADCAM),
    ):
        with pytest.raises(NotCalibratedError, match="is not calibrated for"):
            Detector.open(run, config)
        detector = open_detector(run, config)
        assert np.isfinite(detector.threshold.value)
        again = Detector.open(run, config)
        assert again.threshold == detector.threshold
        assert again.colour_range == detector.colour_range
    assert (run / MODEL_FILE).read_bytes() == content


def test_a_late_calibration_equals_that_of_training(guided: Trained, tmp_path: Path) -> None:
    """The map of the model and its parts are calibrated again for a copy that has lost them."""
    loaded = load_model(guided.model)
    record = loaded.record
    spec = parse_map_spec(record.default_map, record.model)
    run = tmp_path / "disc"
    lost = replace(
        record, default_map="ssim", calibrations={"ssim": record.calibrations[str(spec)]}
    )
    save_model(run / MODEL_FILE, loaded.network.state_dict(), lost)
    source: MapSource = "fused" if spec.is_fused else "attention"
    config = MapConfig(
        source=source, attention=spec.definition.attention, layer=spec.layer, scores="raw"
    )
    assert open_detector(run, config, data=guided.data).spec == spec
    late = load_calibrations(load_model(run))
    assert set(late) == set(record.calibrations)
    for name, calibration in late.items():
        expected = record.calibrations[name].raw
        np.testing.assert_allclose(calibration.raw.maxima, expected.maxima, rtol=1e-5)
        np.testing.assert_allclose(calibration.raw.quantiles, expected.quantiles, rtol=1e-5)
        assert calibration.raw.outline == pytest.approx(expected.outline, rel=1e-5)


def test_a_map_cannot_be_calibrated_without_the_images_of_the_training(
    guided: Trained, tmp_path: Path
) -> None:
    """They are looked for where the command names them, and where the training read them."""
    alone = tmp_path / MODEL_FILE
    shutil.copy(guided.model, alone)
    config = MapConfig(source="ssim")
    with pytest.raises(CheckpointError, match=r"are not in any place.*or use the map"):
        open_detector(alone, config)
    other = shutil.copytree(guided.data, tmp_path / "other")
    (other / "disc/train/good/000.png").unlink()
    with pytest.raises(CheckpointError, match=r"are not in .*other/disc; put them back"):
        open_detector(alone, config, data=other)
    assert open_detector(alone, config, data=guided.data).map_name == "ssim"


def test_only_outlines_of_fused_maps_are_fitted_to_halved_regions(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(trained.model)
    record = loaded.record
    mapper = VAEMapper(loaded.network, record.statistics, 64, CPU, settings=record.settings)
    seen: list[bool] = []

    def spy(*arguments: Any, is_halved: bool) -> MapCalibration:
        seen.append(is_halved)
        return calibrate_map(*arguments, is_halved=is_halved)

    monkeypatch.setattr(calibrate, "calibrate_map", spy)
    training = held_out_set(NormalImages(training_images(trained.data, "disc")[:2], 64))
    specs = map_specs(record.model)
    calibrations = calibrate_maps(mapper, training, specs, record.model, batch_size=2)
    assert seen == [name.startswith("fused") for name in calibrations]
    assert any(seen)


def test_candidates_agree_with_what_the_user_named() -> None:
    """All definitions at the last layer by default; one where it is named."""
    plain, neck = VAEConfig(), VAEConfig(neck="fpn")
    assert [str(spec) for spec in candidate_maps(plain)] == [f"{a}@layer4" for a in Attention]
    assert {spec.layer for spec in candidate_maps(neck)} == {"neck"}
    assert len(candidate_maps(neck, layer="layer2")) == 7
    assert candidate_maps(neck, Attention.GRADCAM) == [MapSpec("gradcam", "neck")]
    with pytest.raises(ConfigError, match="no anomaly map exact@layer2"):
        candidate_maps(neck, Attention.EXACT, "layer2")
    with pytest.raises(ConfigError, match="no layer neck; this model has layer1"):
        candidate_maps(plain, layer="neck")


def test_mapper_with_a_scale_gives_scores(trained: Trained) -> None:
    """(M - mean) / std of the calibration, pixel by pixel."""
    loaded = load_model(trained.model)
    spec = MapSpec("gradcam", "layer3")
    plain = VAEMapper(loaded.network, loaded.record.statistics, 64, CPU)
    held_out = NormalImages(training_images(trained.data, "disc")[:3], 64)
    training = held_out_set(held_out)
    calibrations = calibrate_maps(plain, training, [spec], loaded.record.model, batch_size=2)
    scale, _ = calibrations[str(spec)].select("global")
    assert scale is not None
    scaled = VAEMapper(loaded.network, loaded.record.statistics, 64, CPU, scale=scale)
    images = torch.rand(2, 3, 64, 64)
    raw, scores = (mapper(images, [spec])[spec] for mapper in (plain, scaled))
    expected = (raw - scale.mean.item()) / scale.std.item()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scaled.with_latents(images, spec).anomaly_maps, scores)
