"""Fused maps: parts in standard deviations of normal images, and their sum."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained, run_cli

from anomaly_cli.config.commands import MapConfig
from anomaly_cli.detector.checkpoint import load_calibrations, load_model
from anomaly_cli.detector.fusion import SMOOTHING, MapSettings, finish_map, fit_scales, smooth
from anomaly_cli.detector.maps import DEFINITIONS, PARTS, MapSpec, fused_map, map_specs
from anomaly_cli.detector.normal.appearance import KINDS
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.training.calibrate import open_detector
from models.config import OneClassConvConfig, VAEConfig

SPEC = MapSpec("fused_memory", "neck")
NAMES = DEFINITIONS["fused_memory"].parts


def test_every_part_has_the_floor_and_weight_that_models_were_made_with() -> None:
    assert {name: tuple(part) for name, part in PARTS.items()} == {
        "attention": (1.0, 0.5),
        "appearance": (1.0, 1.0),
        "memory": (0.1, 1.0),
    }


def one(value: float) -> np.ndarray:
    return np.full((1, 1), value, np.float32)


def test_fused_map_is_the_sum_of_three_scores_by_hand() -> None:
    pairs = ((1.0, 2.0), (3.0, 4.0), (0.5, 0.25))
    scales = {
        name: ScoreScale(one(mean), one(std))
        for name, (mean, std) in zip(NAMES, pairs, strict=True)
    }
    maps = {
        part: np.full((8, 8), value, np.float32)
        for part, value in zip(SPEC.parts, (np.e, np.e**2, 1.5), strict=True)
    }
    fused = finish_map(maps, SPEC, MapSettings(0.0, scales))
    attention = (np.log(np.e + 1) - 1) / 2
    appearance = (np.log(np.e**2 + 1) - 3) / 4
    memory = (np.log(1.5 + 0.1) - 0.5) / 0.25
    np.testing.assert_allclose(fused, attention / 2 + appearance + memory, rtol=1e-5)


def test_a_network_has_the_fused_map_of_its_parts() -> None:
    memory = VAEConfig(neck="fpn", features="efficientnet-lite0")
    assert fused_map(memory) == SPEC
    assert [part.source for part in SPEC.parts] == ["exact", "appearance", "memory"]
    assert fused_map(VAEConfig(neck="fpn")) == MapSpec("fused", "neck")
    assert [part.source for part in MapSpec("fused", "neck").parts] == ["exact", "appearance"]
    assert fused_map(VAEConfig(head="flatten")) is None
    assert fused_map(OneClassConvConfig()) is None
    assert sum(spec.is_fused for spec in map_specs(memory)) == 1


def test_smoothing_keeps_the_mean_and_zero_changes_nothing() -> None:
    anomaly_map = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    assert smooth(anomaly_map, 0.0) is anomaly_map
    assert smooth(anomaly_map, 2.0).std() < 0.3 * anomaly_map.std()
    np.testing.assert_allclose(smooth(np.full((32, 32), 3.0, np.float32), 2.0), 3.0, rtol=1e-6)


def test_scales_are_the_moments_of_the_logarithms() -> None:
    """Over all pixels of all images, smoothed first."""
    rng = np.random.default_rng(0)
    maps = {part: list(rng.lognormal(0, 1, (6, 8, 8)).astype(np.float32)) for part in SPEC.parts}
    scales = fit_scales(maps, SPEC, 0.0)
    smoothed = fit_scales(maps, SPEC, 1.0)
    assert tuple(scales) == NAMES
    for name, part in zip(NAMES, SPEC.parts, strict=True):
        logs = np.log(np.stack(maps[part]).astype(float) + PARTS[name].floor)
        assert scales[name].mean.shape == (1, 1)
        np.testing.assert_allclose(scales[name].mean, logs.mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(scales[name].std, logs.std(), rtol=1e-4)
        assert smoothed[name].std < scales[name].std


def test_a_guided_model_shows_the_fused_map(guided: Trained) -> None:
    """No label and no drawn defect chooses it, or the weights of its parts."""
    record = load_model(guided.model).record
    assert record.model.encoder == "efficientnet-lite0"  # type: ignore[union-attr]
    assert record.default_map == str(SPEC)
    assert record.training["map_selection"] == {}
    assert record.settings.smoothing == 64 * SMOOTHING
    assert tuple(record.settings.scales) == NAMES
    assert len(record.latent_kinds) == record.model.latent_dim


@pytest.mark.parametrize(
    "source", [None, "fused", "attention", "appearance", "memory", "reconstruction"]
)
def test_map_option_chooses_the_sum_or_a_part(guided: Trained, source: str | None) -> None:
    detector = open_detector(guided.model, MapConfig(source=source))  # type: ignore[arg-type]
    expected = {None: str(SPEC), "fused": str(SPEC), "attention": "exact@neck"}
    assert str(detector.spec) == expected.get(source, source)


@pytest.mark.parametrize(
    ("config", "is_halved"),
    [
        (MapConfig(source="fused"), True),
        (MapConfig(source="fused", scores="global"), True),
        (MapConfig(source="appearance"), False),
        (MapConfig(source="fused", outline=1.5), False),
        (MapConfig(source="fused", outline=math.nan), False),
        (MapConfig(source="fused", threshold=3.0), False),
    ],
)
def test_regions_of_fused_maps_end_halfway_up_by_default(
    guided: Trained, tmp_path: Path, config: MapConfig, is_halved: bool
) -> None:
    model = shutil.copytree(guided.model.parent, tmp_path / "disc")
    detector = open_detector(model, config)
    level = detector.threshold.normal_level
    assert np.isfinite(level) == is_halved
    if is_halved:
        loaded = load_model(model)
        stored = {**loaded.record.calibrations, **load_calibrations(loaded)}
        _scale, calibration = stored[str(detector.spec)].select(detector.scores)
        assert level == calibration.exceeded_by(0.5)


@pytest.mark.parametrize("options", [("--attention", "gradcam"), ("--target-layer", "stride8")])
def test_another_attention_than_the_part_is_refused(
    guided: Trained, tmp_path: Path, options: tuple[str, str]
) -> None:
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--map", "fused", *options,
        "--output", tmp_path / "never",
    )  # fmt: skip
    assert outcome.code == 2
    assert "--map fused has the attention exact@neck as a part" in outcome.stderr
    assert not (tmp_path / "never").exists()


def test_parts_and_latents_add_up_to_the_score(guided: Trained, tmp_path: Path) -> None:
    """At the highest pixel the three parts add up to the score, and shares to 1."""
    detector = open_detector(guided.model, MapConfig(source="fused"))
    mapper, images = detector.view.mapper, torch.rand(3, 3, 64, 64)
    computed = mapper.with_latents(images, detector.spec)
    plain = mapper(images, [detector.spec])[detector.spec]
    np.testing.assert_allclose(computed.anomaly_maps, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        sum(computed.parts.values()), computed.anomaly_maps, rtol=1.3e-6, atol=1e-5
    )
    out = tmp_path / "out"
    outcome = run_cli(
        "localize", guided.model, guided.data / "disc/test", "--latents", "all", "--map", "fused",
        "--output", out,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    for line in (out / "manifest.jsonl").read_text().splitlines():
        record = json.loads(line)
        total = sum(record["peak"][name] for name in NAMES)
        assert total == pytest.approx(record["score"], rel=1e-4)
        shares = [latent["share_at_peak"] for latent in record["latents"]]
        assert sum(shares) == pytest.approx(1)
        of_kinds = record["peak"]["appearance_shares"]
        assert list(of_kinds) == list(KINDS)
        assert sum(of_kinds.values()) == pytest.approx(1)
        assert all(latent["kind"] for latent in record["latents"])
