"""Which latents are shown, how far they deviate, what share of the map is theirs, their colours."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, draw_hole, draw_part

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.checkpoint import LoadedModel, load_model
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.latents import (
    STEPS,
    LatentSelection,
    describe_latents,
    latent_colour_range,
    name_latents,
    select_latents,
    strongest,
    traverse,
)
from anomaly_cli.detector.mapper import LatentMaps
from anomaly_cli.detector.maps import MapSpec, map_specs
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.prediction import Prediction
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import ConfigError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.resize import resize_map
from anomaly_cli.pictures.colours import heat_levels
from models.config import VAEConfig
from models.statistics import LatentStatistics
from models.vae import Posterior

CPU = torch.device("cpu")
SPEC = MapSpec("diff_mahal", "layer4")
PER_LATENT = [spec for spec in map_specs(VAEConfig()) if spec.has_latents and not spec.is_fused]


@pytest.fixture(scope="module")
def loaded(trained: Trained) -> LoadedModel:
    return load_model(trained.model)


@pytest.fixture(scope="module")
def mapper(loaded: LoadedModel) -> VAEMapper:
    return VAEMapper(loaded.network, loaded.record.statistics, 64, CPU)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Two normal parts and one with a hole, (3, 3, 64, 64)."""
    return to_tensor(np.stack([draw_part(50), draw_part(51), draw_hole(52)[0]]))


# Selection


def test_all_is_every_latent_in_order() -> None:
    assert select_latents("all", 4, SPEC).choose(np.array([0.0, 3.0, 1.0, 2.0])) == [0, 1, 2, 3]


def test_numbers_are_taken_as_given_and_once() -> None:
    assert select_latents("3,0,3", 4, SPEC).choose(np.zeros(4)) == [3, 0]


def test_top_takes_the_strongest_first() -> None:
    strengths = np.array([0.5, 3.0, 1.0, 2.0])
    assert select_latents("top:1", 4, SPEC).choose(strengths) == [1]
    assert select_latents("top:3", 4, SPEC).choose(strengths) == [1, 3, 2]


def test_top_of_more_latents_than_there_are_is_all_of_them() -> None:
    assert select_latents("top:9", 3, SPEC) == LatentSelection(top=3)
    assert select_latents("top:9", 3, SPEC).choose(np.array([1.0, 2.0, 0.0])) == [1, 0, 2]


def test_equally_strong_latents_come_by_their_number() -> None:
    assert strongest([3, 2, 0, 1], np.array([1.0, 2.0, 2.0, 1.0])) == [1, 2, 0, 3]


@pytest.mark.parametrize(
    "text", ["", "x", "top", "top:", "top:0", "top:-1", "top:1.5", "4", "-1", "0,4", "1,,2", "ALL"]
)
def test_the_error_of_a_bad_selection_says_what_is_right(text: str) -> None:
    with pytest.raises(ConfigError, match="use all, top:K with K from 1, or numbers from 0 to 3"):
        select_latents(text, 4, SPEC)


@pytest.mark.parametrize("source", ["official", "diff_sample", "reconstruction"])
def test_a_map_without_latents_names_those_that_have_them(source: str) -> None:
    with pytest.raises(ConfigError, match=f"{source}.* no map for each latent.*gradcam, paper, "):
        select_latents("all", 4, MapSpec(source, None if source == "reconstruction" else "layer4"))


def test_every_other_map_has_latents() -> None:
    for spec in PER_LATENT:
        assert select_latents("all", 2, spec).indices == (0, 1)


# Maps of latents


@pytest.mark.parametrize("spec", PER_LATENT, ids=str)
def test_mean_of_the_latent_maps_is_the_anomaly_map(
    mapper: VAEMapper, images: torch.Tensor, spec: MapSpec
) -> None:
    """Bit by bit that of a run without latents; and enlarging commutes with the mean."""
    computed = mapper.with_latents(images, spec)
    np.testing.assert_array_equal(computed.anomaly_maps, mapper(images, [spec])[spec])
    for anomaly_map, latent_maps in zip(computed.anomaly_maps, computed.latent_maps, strict=True):
        assert len(latent_maps) == 4
        enlarged = np.mean([resize_map(m.numpy(), 64, 64) for m in latent_maps], axis=0)
        largest = float(anomaly_map.max())
        np.testing.assert_allclose(enlarged, anomaly_map, atol=1e-6 * largest, rtol=1e-5)


def test_a_vae_expects_what_its_decoder_makes_of_the_posterior_means(
    mapper: VAEMapper, images: torch.Tensor
) -> None:
    with torch.no_grad():
        rebuilt = mapper.vae.reconstruct(images)
    torch.testing.assert_close(mapper.expected(images), rebuilt)


def test_reconstruction_has_no_latent_maps(mapper: VAEMapper, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="reconstruction has no map for each latent"):
        mapper.with_latents(images, MapSpec("reconstruction"))


def test_encoder_runs_once_for_both_kinds_of_maps(
    mapper: VAEMapper, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    features = mapper.encoder.features
    monkeypatch.setattr(
        mapper.encoder, "features", lambda *given: passes.append(1) or features(*given)
    )
    mapper.with_latents(images, MapSpec("diff_mahal", "layer3"))
    assert len(passes) == 1


# Numbers


def test_deviation_is_in_standard_deviations_of_the_difference() -> None:
    """(3 - 1) / sqrt(3 + 1) = 1 and (-4 - 2) / sqrt(5 + 4) = -2."""
    posterior = Posterior(torch.tensor([[3.0, -4.0]]), torch.tensor([[1.0, 4.0]]).log())
    statistics = LatentStatistics(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))
    maps = torch.tensor([[[[1.0, 2.0]], [[0.0, 9.0]]]])
    (latents,) = describe_latents(LatentMaps(maps.mean(1).numpy(), maps, posterior, statistics), 0)
    np.testing.assert_allclose(latents.deviations, [1.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(latents.shares, [0.25, 0.75])
    assert latents.record(1) == {
        "latent": 1, "mean": -4.0, "deviation": pytest.approx(-2.0), "share": 0.75,
        "share_at_peak": pytest.approx(9 / 11),
    }  # fmt: skip


def test_deviations_are_those_of_the_checkpoint(
    loaded: LoadedModel, mapper: VAEMapper, images: torch.Tensor
) -> None:
    """Worked out in float64 from the posterior and the statistics that the file holds."""
    normal = loaded.record.statistics.attention.latent
    mean, variance = (part.double().numpy() for part in normal)
    with torch.no_grad():
        mu, logvar = (part.double().numpy() for part in loaded.network.encode(images))
    expected = (mu - mean) / np.sqrt(variance + np.exp(logvar))
    described = describe_latents(mapper.with_latents(images, SPEC), 0)
    for latents, deviations, means in zip(described, expected, mu, strict=True):
        np.testing.assert_allclose(latents.deviations, deviations, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(latents.means, means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", PER_LATENT, ids=str)
def test_shares_of_all_latents_add_up_to_one(
    mapper: VAEMapper, images: torch.Tensor, spec: MapSpec
) -> None:
    computed = mapper.with_latents(images, spec)
    described = describe_latents(computed, 0)
    for latents, anomaly_map in zip(described, computed.anomaly_maps, strict=True):
        assert latents.shares.sum() == pytest.approx(1)
        assert (latents.shares >= 0).all()
        # The share is also that of the enlarged map: bilinear enlarging keeps the mass.
        first = resize_map(latents.maps[0], 64, 64).sum() / 4 / float(anomaly_map.sum())
        assert first == pytest.approx(latents.shares[0], rel=1e-3, abs=1e-6)


def test_latents_are_listed_by_the_kind_of_defect_they_respond_to() -> None:
    assert name_latents(["hole", "stain", "hole"]) == "hole: z0, z2; stain: z1"
    assert name_latents([]) == ""


def test_share_of_an_empty_map_is_undefined() -> None:
    posterior = Posterior(torch.zeros(1, 2), torch.zeros(1, 2))
    statistics = LatentStatistics(torch.zeros(2), torch.ones(2))
    maps = torch.zeros(1, 2, 3, 3)
    (latents,) = describe_latents(LatentMaps(maps.mean(1).numpy(), maps, posterior, statistics), 0)
    assert np.isnan(latents.shares).all()
    assert latents.record(0)["share"] is None


# Colours


def test_one_latent_has_the_scale_of_the_map() -> None:
    assert latent_colour_range((1.0, 3.0), 1) == (1.0, 3.0)


def test_scale_of_latents_is_stretched_by_the_root_of_their_number() -> None:
    """16 latents: 4 times as far from normal, so the middle is at 1 + 4 * 1, not at 2."""
    low, high = latent_colour_range((1.0, 3.0), 16)
    assert (low, high) == (1.0, 9.0)
    assert heat_levels(np.array([[5.0]], np.float32), (low, high))[0, 0] in {127, 128}


def predict(model: Path, paths: list[Path]) -> list[Prediction]:
    """Every image with its latents."""
    detector = Detector.open(model, MapConfig(batch_size=2, workers=1))
    return list(detector.predict_files(paths, with_latents=True))


def test_scale_of_latents_is_one_for_a_model_whatever_threshold_is_chosen(
    trained: Trained,
) -> None:
    plain = Detector.open(trained.model, MapConfig())
    given = Detector.open(trained.model, MapConfig(threshold=123.0))
    low, high = plain.colour_range
    assert plain.latent_colour_range == pytest.approx((low, low + math.sqrt(4) * (high - low)))
    assert given.latent_colour_range == plain.latent_colour_range
    assert given.colour_range != plain.colour_range


def test_latents_of_an_image_do_not_depend_on_the_others(trained: Trained, tmp_path: Path) -> None:
    for i in range(3):
        write_png(tmp_path / f"{i}.png", draw_hole(i)[0] if i else draw_part(9))
    paths = sorted(tmp_path.glob("*.png"))
    together = predict(trained.model, paths)
    alone = [predict(trained.model, [path])[0] for path in paths]
    for one, other in zip(together, alone, strict=True):
        assert one.latents is not None
        assert other.latents is not None
        np.testing.assert_allclose(one.latents.maps, other.latents.maps, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(one.latents.deviations, other.latents.deviations, rtol=1e-3)


# Traversal


def test_traversal_moves_one_latent_by_standard_deviations(loaded: LoadedModel) -> None:
    """The frame of latent 2 at +1.5 is the decoder's picture of m with m_2 + 1.5 sqrt(v_2)."""
    latent = loaded.record.statistics.attention.latent
    statistics = LatentStatistics(*(part.float() for part in latent))
    frames = traverse(loaded.network, statistics, [2, 0])
    assert frames.shape == (2, 5, 64, 64, 3)
    assert frames.dtype == np.uint8
    code = statistics.mean.clone()
    code[2] += 1.5 * math.sqrt(float(statistics.variance[2]))
    with torch.no_grad():
        expected = loaded.network.decode(code[None])[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(frames[0, STEPS.index(1.5)] - expected).max() <= 0.51
    assert (frames[0, 0] != frames[0, -1]).any()


def test_traversals_of_all_latents_meet_at_the_mean(loaded: LoadedModel) -> None:
    latent = loaded.record.statistics.attention.latent
    statistics = LatentStatistics(*(part.float() for part in latent))
    frames = traverse(loaded.network, statistics, [0, 1, 2, 3])
    for frame in frames[:, STEPS.index(0.0)]:
        np.testing.assert_array_equal(frame, frames[0, STEPS.index(0.0)])
